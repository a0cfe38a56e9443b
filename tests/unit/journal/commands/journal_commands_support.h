// JournalCommands: the fixture that runs `epochfs journal ...` in this process, over a journal made
// by hand, and keeps what it printed.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <iostream>
#include <string>

#include "journal/commands/commands.h"
#include "journal/control/standard_output.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::testing {

class JournalCommands : public JournalTest {
 protected:
  void SetUp() override {
    open();
    append(create_of(5, "a name\n\xff"), {1000, 100, 4242});
    seal_and_publish();
    append(write_of(6, 100, 150));
    journal::Record r = write_of(6, 200, ByteRange::kEndOfFile);
    r.type = journal::RecordType::kTruncate;
    append(r);
    seal_and_publish();
  }
  Lsn append(journal::Record r, const Caller& caller = {}) {
    if (r.parent) r.parent = volume_.info().identity.root;
    r.caller = caller;
    return journal_->append(r);
  }
  int run(const Arguments& arguments) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int status = journal::journal_command(arguments);
    std::fflush(stdout);
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return status;
  }
  // What is printed goes to that file.
  int run_to(const char* path, const Arguments& arguments) {
    std::fflush(stdout);
    UniqueFd before(::dup(STDOUT_FILENO)), there(::open(path, O_WRONLY | O_CLOEXEC));
    EXPECT_GE(::dup2(there.get(), STDOUT_FILENO), 0);
    ::testing::internal::CaptureStderr();
    const int status = run_and_flush([&] { return journal::journal_command(arguments); });
    err_ = ::testing::internal::GetCapturedStderr();
    // What is left in the buffer goes nowhere, instead of into the output of this test.
    UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    EXPECT_GE(::dup2(nowhere.get(), STDOUT_FILENO), 0);
    std::fflush(stdout);
    std::clearerr(stdout);
    std::cout.clear();
    EXPECT_GE(::dup2(before.get(), STDOUT_FILENO), 0);
    return status;
  }
  int on_journal(const std::string& subcommand, const Arguments& more = {}) {
    Arguments arguments = {subcommand, volume_.path()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  int list(const Arguments& more = {}) { return on_journal("list", more); }
  size_t lines() const { return size_t(std::count(out_.begin(), out_.end(), '\n')); }
  bool said(std::string_view part) const { return out_.find(part) != std::string::npos; }
  bool complained(std::string_view part) const { return err_.find(part) != std::string::npos; }

  std::string out_, err_;
};

}  // namespace epochfs::testing
