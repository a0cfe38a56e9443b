// Does the journal tell what was done in a mounted directory, where, by whom and when? While
// it is mounted, and from a copy of the journal somewhere else?
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

#include "schema/control.capnp.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

struct Entry {
  std::string operation, path, new_path, command = {};
  uint64_t lsn = 0, epoch = 0, inode = 0, offset = 0, length = 0, time_ns = 0;
  uint32_t uid = 0, pid = 0;
  bool gone = false, known = false;
};

Entry parse(const std::string& line) {
  capnp::JsonCodec json;
  json.handleByAnnotation<rpc::JournalEntry>();
  capnp::MallocMessageBuilder message;
  auto built = message.initRoot<rpc::JournalEntry>();
  json.decode(kj::ArrayPtr<const char>(line.data(), line.size()), built);
  const auto e = built.asReader();
  return {.operation = std::string(e.getOperation()),
          .path = std::string(e.getPath()),
          .new_path = std::string(e.getNewPath()),
          .command = std::string(e.getCommand()),
          .lsn = e.getLsn(),
          .epoch = e.getEpoch(),
          .inode = e.getInode(),
          .offset = e.getOffset(),
          .length = e.getLength(),
          .time_ns = e.getTimeNs(),
          .uid = e.getUid(),
          .pid = e.getPid(),
          .gone = e.getPathGone(),
          .known = e.getPathKnown()};
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    host_ = std::make_unique<Host>("j");
    data_ = host_->make_directory("data");
  }
  std::string operator/(const std::string& name) const { return data_ + "/" + name; }

  std::vector<Entry> list(const Arguments& more = {}, const std::string& journal = "") const {
    Arguments arguments = {"journal", "list", journal.empty() ? data_ : journal, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = host_->epochfs(arguments);
    EXPECT_TRUE(outcome.status == 0 || outcome.status == 4) << outcome.err;
    std::vector<Entry> out;
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) out.push_back(parse(line));
    return out;
  }
  // Of the only mount that there was.
  std::string the_volume() const {
    return std::filesystem::directory_iterator(host_->state() + "/volumes")->path();
  }
  std::vector<std::string> paths(const Arguments& more, const std::string& journal = "") const {
    std::vector<std::string> out;
    for (const Entry& e : list(more, journal)) {
      out.push_back(e.new_path.empty() ? e.path : e.path + " -> " + e.new_path);
    }
    return out;
  }
  void write_in_place(const std::string& name, std::string_view bytes, off_t offset = 0) {
    UniqueFd fd(::open((*this / name).c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), offset), ssize_t(bytes.size()));
  }

  std::unique_ptr<Host> host_;
  std::string data_;
};

using Strings = std::vector<std::string>;

TEST_F(JournalTest, PathsAreThoseOfTheMoment) {
  host_->mount(data_);
  make_directory(*this / "a");
  make_directory(*this / "a/b");
  write_file(*this / "a/b/file", "one");
  ASSERT_EQ(::rename((*this / "a").c_str(), (*this / "z").c_str()), 0);
  write_in_place("z/b/file", "two");
  ASSERT_EQ(::rename((*this / "z/b/file").c_str(), (*this / "top").c_str()), 0);
  write_in_place("top", "three");
  EXPECT_EQ(paths({"--type", "write"}), (Strings{"a/b/file", "z/b/file", "top"}));
  EXPECT_EQ(paths({"--type", "rename"}), (Strings{"a -> z", "z/b/file -> top"}));
  EXPECT_EQ(paths({"--type", "write", "--path", "a"}), (Strings{"a/b/file"}));
  EXPECT_EQ(paths({"--type", "write", "--path", *this / "z"}), (Strings{"z/b/file"}))
      << "absolute, as it is typed";
}

TEST_F(JournalTest, NamesOlderThanTheJournalComeFromTheBackingDirectory) {
  make_directory(*this / "old");
  make_directory(*this / "old/deep");
  write_file(*this / "old/deep/file", "before the first mount");
  host_->mount(data_);
  write_in_place("old/deep/file", "changed");
  write_file(*this / "old/deep/new", "");
  EXPECT_EQ(paths({"--type", "write,create"}), (Strings{"old/deep/file", "old/deep/new"}));
  host_->unmount(data_);
  const std::string journal = the_volume();
  EXPECT_EQ(paths({"--type", "create"}, journal), (Strings{"old/deep/new"})) << "unmounted";
  // A copy on a machine that has no such directory knows what the journal tells.
  const std::string copy = *host_ / "copy";
  std::filesystem::copy(journal, copy, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(data_);
  const auto there = list({"--type", "create"}, copy);
  ASSERT_EQ(there.size(), 1u);
  EXPECT_FALSE(there[0].known);
  EXPECT_TRUE(there[0].path.starts_with("#") && there[0].path.ends_with("/new")) << there[0].path;
  EXPECT_EQ(host_->epochfs({"journal", "verify", copy}).status, 0);
}

TEST_F(JournalTest, SaysWhoAndWhenAndWhere) {
  host_->mount(data_);
  ASSERT_EQ(::chmod(data_.c_str(), 0777), 0);
  const uint64_t before = now_ns();
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(1);
    int fd = ::open((*this / "theirs").c_str(), O_WRONLY | O_CREAT, 0600);
    ::_exit(::pwrite(fd, "12345", 5, 100) == 5 ? 0 : 1);
  }
  ASSERT_EQ(wait_for_end(child, Milliseconds(10'000)), 0);
  const auto writes = list({"--uid", "65534", "--type", "write"});
  ASSERT_EQ(writes.size(), 1u);
  EXPECT_EQ(writes[0].path, "theirs");
  EXPECT_EQ(writes[0].pid, uint32_t(child));
  EXPECT_EQ(writes[0].offset, 100u);
  EXPECT_EQ(writes[0].length, 5u);
  EXPECT_GE(writes[0].time_ns, before);
  EXPECT_LE(writes[0].time_ns, now_ns());
  struct stat st;
  ASSERT_EQ(::stat((*this / "theirs").c_str(), &st), 0);
  EXPECT_EQ(writes[0].inode, st.st_ino);
  EXPECT_EQ(list({"--file", std::to_string(st.st_ino), "--type", "create"}).size(), 1u);
  EXPECT_EQ(list({"--pid", std::to_string(child)}).size(), 2u);
  EXPECT_TRUE(list({"--pid", std::to_string(child), "--until", "1h"}).empty());
}

TEST_F(JournalTest, NamesTheProgramOfAProcessThatStillRuns) {
  host_->mount(data_);
  std::ifstream comm("/proc/self/comm");
  std::string own;
  std::getline(comm, own);
  write_file(*this / "ours", "");
  const pid_t child = ::fork();
  if (child == 0) {
    const int fd = ::open((*this / "theirs").c_str(), O_WRONLY | O_CREAT, 0600);
    ::_exit(fd < 0);
  }
  ASSERT_EQ(wait_for_end(child, Milliseconds(10'000)), 0);
  const auto made = list({"--type", "create"});
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0].command, own);
  EXPECT_EQ(made[1].command, "") << "it has ended";
  // A journal that is not mounted here may be of another machine, where the pid is
  // somebody else's.
  host_->unmount(data_);
  EXPECT_EQ(list({"--type", "create"}, the_volume())[0].command, "");
}

TEST_F(JournalTest, NamesThatAreNoTextAreEscaped) {
  host_->mount(data_);
  const std::string name = "new\nline \xff\\";
  write_file(*this / name, "");
  EXPECT_EQ(paths({"--type", "create"}), (Strings{"new\\nline \\xff\\\\"}));
  const Outcome json = host_->epochfs({"journal", "list", data_, "--json", "--type", "create"});
  EXPECT_NE(json.out.find("\"pathBase64\":\"bmV3CmxpbmUg/1w=\""), std::string::npos) << json.out;
  const Outcome text = host_->epochfs({"journal", "list", data_, "--type", "create"});
  EXPECT_EQ(std::count(text.out.begin(), text.out.end(), '\n'), 1);
}

TEST_F(JournalTest, FollowSeesWhatComesAndGoesOnAfterAKill) {
  host_->mount(data_);
  const std::string cursor = *host_ / "cursor";
  const Arguments follow = {"journal", "follow", data_,      "--json",
                            "--type",  "create", "--cursor", cursor};
  {
    Background first(host_->command(follow));
    eventually("it has begun", [&] { return std::filesystem::exists(cursor); });
    write_file(*this / "one", "");
    ASSERT_TRUE(first.wait_for_line("\"path\":\"one\"", Milliseconds(10'000))) << first.said();
    const std::string kept = read_whole_file(cursor);
    write_file(*this / "two", "");
    ASSERT_TRUE(first.wait_for_line("\"path\":\"two\"", Milliseconds(10'000))) << first.said();
    eventually("the cursor follows", [&] { return read_whole_file(cursor) != kept; });
    first.kill();
  }
  write_file(*this / "three", "");
  host_->unmount(data_);
  host_->mount(data_);
  Background second(host_->command(follow));
  ASSERT_TRUE(second.wait_for_line("\"path\":\"three\"", Milliseconds(10'000))) << second.said();
  write_file(*this / "four", "");
  ASSERT_TRUE(second.wait_for_line("\"path\":\"four\"", Milliseconds(10'000))) << second.said();
  EXPECT_EQ(second.said().find("\"path\":\"one\""), std::string::npos) << "not again";
  second.signal(SIGTERM);
  EXPECT_EQ(second.wait(Milliseconds(10'000)), 0);
}

TEST_F(JournalTest, AMountUnderLoadIsSoundAndNotDisturbed) {
  host_->mount(data_);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      write_file(*this / ("file-" + std::to_string(i % 50)), std::string(100, 'x'));
      if (i % 10 == 0) ::unlink((*this / ("file-" + std::to_string(i % 50))).c_str());
    }
  });
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(host_->epochfs({"barrier", data_}).status, 0);
    const Outcome verify = host_->epochfs({"journal", "verify", data_});
    EXPECT_EQ(verify.status, 0) << verify.out << verify.err;
    const Outcome stat = host_->epochfs({"journal", "stat", data_});
    EXPECT_EQ(stat.status, 0) << stat.err;
    EXPECT_NE(stat.out.find("mounted by process"), std::string::npos) << stat.out;
    EXPECT_FALSE(list({"--reverse", "--limit", "10"}).empty());
  }
  stop = true;
  writer.join();
  host_->kill_mount(data_);
  host_->mount(data_);
  EXPECT_EQ(host_->epochfs({"journal", "verify", data_}).status, 0);
}

TEST_F(JournalTest, ShowEpochsAndSummaryAgreeWithTheList) {
  host_->mount(data_);
  write_file(*this / "file", "12345");
  const std::string sealed = host_->must({"barrier", data_});
  write_file(*this / "other", "1");
  const auto all = list();
  for (const Entry& e : all) {
    const std::string lsn = std::to_string(e.lsn);
    const Entry shown = parse(host_->must({"journal", "show", data_, lsn, "--json"}));
    EXPECT_EQ(shown.operation, e.operation);
    EXPECT_EQ(shown.path, e.path);
  }
  EXPECT_EQ(host_->epochfs({"journal", "show", data_, "1"}).status, 4);
  for (const Entry& e : list({"--epoch", sealed})) EXPECT_EQ(std::to_string(e.epoch), sealed);
  const std::string epochs = host_->must({"journal", "epochs", data_, "--json", "--epoch", sealed});
  EXPECT_NE(epochs.find("\"bytes\":\"5\""), std::string::npos) << epochs;
  EXPECT_NE(epochs.find("\"state\":\"sealed\""), std::string::npos) << epochs;
  const std::string summary =
      host_->must({"journal", "list", data_, "--summary", "path", "--json"});
  EXPECT_NE(summary.find("\"path\":\"file\""), std::string::npos) << summary;
}

class ReplicatedJournal : public TwoHosts {};

TEST_F(ReplicatedJournal, EpochsSayWhoHasThem) {
  establish();
  write_file(data() + "/file", "content");
  const uint64_t epoch = replica().barrier();
  replica().wait_for_epoch(epoch);
  const Arguments ask = {"journal", "epochs", data(), "--no-net", "--epoch", std::to_string(epoch)};
  eventually("the cursor is written", [&] {
    return a().must(ask).find(replica().id() + ":replicated") != std::string::npos;
  });
  EXPECT_NE(a().must(ask).find("  released "), std::string::npos);
}

TEST_F(JournalTest, AnybodyMayReadACopyThatIsTheirs) {
  host_->mount(data_);
  write_file(*this / "file", "");
  host_->unmount(data_);
  const std::string journal = the_volume();
  const std::string copy = *host_ / "copy";
  std::filesystem::copy(journal, copy, std::filesystem::copy_options::recursive);
  ASSERT_EQ(::chmod(host_->folder().c_str(), 0755), 0);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(copy)) {
    ASSERT_EQ(::chown(entry.path().c_str(), 65534, 65534), 0);
  }
  ASSERT_EQ(::chown(copy.c_str(), 65534, 65534), 0);
  auto as_nobody = [&](const Arguments& more) {
    Command command = host_->command({});
    Arguments words = {"setpriv", "--reuid",        "65534",         "--regid",
                       "65534",   "--clear-groups", command.argv[0], "journal"};
    words.insert(words.end(), more.begin(), more.end());
    command.argv = words;
    return ::epochfs::testing::run(command, Milliseconds(10'000));
  };
  for (const char* subcommand : {"list", "epochs", "stat", "verify"}) {
    const Outcome outcome = as_nobody({subcommand, copy});
    EXPECT_EQ(outcome.status, 0) << subcommand << outcome.err;
  }
  EXPECT_EQ(as_nobody({"list", journal}).status, 7) << "the real one is private";
}

}  // namespace
}  // namespace epochfs::testing
