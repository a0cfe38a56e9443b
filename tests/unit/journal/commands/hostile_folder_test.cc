// `epochfs journal ...` over a folder that somebody damaged, or made to do harm: every command says
// what is missing, none waits, follows a link, or ends by a signal.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "journal/changes/checkpoints.h"
#include "journal/commands/cut_files.h"
#include "journal/log/log_view.h"
#include "journal/volume/cursors.h"
#include "journal/volume/labels.h"
#include "tests/support/waiting.h"
#include "tests/unit/journal/commands/journal_commands_support.h"

namespace epochfs::testing {
namespace {

namespace fs = std::filesystem;

class HostileFolder : public JournalCommands {
 protected:
  void SetUp() override {
    JournalCommands::SetUp();
    for (uint64_t i = 0; i < 3000; ++i) append(write_of(7, i, i + 1));
    seal_and_publish();
    must(journal::write_cursor(Storage::system(), volume_.dir(), "abc", {EpochId{1}}));
    must(must(journal::Checkpoints::open(storage_, volume_))->extend(EpochId{0}, EpochId{1}, {}));
    must(journal::write_label(Storage::system(), volume_.dir(), {.epoch = EpochId{1}}, "x"));
    write_file(at("pre-images/log"), "x");
    write_file(at("lock"), "1\n");
  }
  std::string at(const std::string& name) const { return volume_.path() + "/" + name; }
  // The last segment that holds records.
  uint64_t tail_segment() {
    return value(must(journal::JournalReader(volume_).read_all(
               Lsn{0}, [](const journal::Record&) { return true; }, nullptr))) /
           kSegment;
  }
  // Those that read the log.
  void expect_all(int status, const std::string& why) {
    for (const Arguments& arguments :
         {Arguments{"list"}, Arguments{"list", "--reverse"}, Arguments{"list", "--summary", "type"},
          Arguments{"stat"}, Arguments{"epochs"}, Arguments{"verify"}}) {
      EXPECT_EQ(on_journal(arguments[0], {arguments.begin() + 1, arguments.end()}), status)
          << why << ": " << arguments[0] << " " << arguments.back() << "\n"
          << err_ << (arguments[0] == "list" ? "" : out_);
    }
  }
};

// ---- what is no regular file ----

struct Kind {
  const char* what;
  std::function<void(const std::string& path)> make;
};

const Kind kKinds[] = {
    {"FIFO", [](const std::string& path) { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); }},
    {"directory", [](const std::string& path) { fs::create_directory(path); }},
    {"symbolic link", [](const std::string& path) { fs::create_symlink("/dev/zero", path); }},
    {"dangling link", [](const std::string& path) { fs::create_symlink("/nowhere", path); }},
    {"socket", [](const std::string& path) {
       UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
       sockaddr_un address{};
       address.sun_family = AF_UNIX;
       ASSERT_LT(path.size(), sizeof address.sun_path) << path;
       path.copy(address.sun_path, path.size());
       ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
     }}};

TEST_F(HostileFolder, WhatIsNoRegularFileIsNeitherOpenedNorPassedOver) {
  close();
  const std::string names[] = {"segments/" + journal::segment_name(1),
                               "epochs",
                               "in-flight",
                               "lock",
                               "settled",
                               "cursors/abc",
                               "labels/1",
                               "checkpoints/0000000000000001-0000000000000001",
                               "pre-images/log",
                               "volume",
                               "segments",
                               "cursors",
                               "labels",
                               "checkpoints",
                               "pre-images"};
  for (const std::string& name : names) {
    for (const Kind& kind : kKinds) {
      const bool folder = fs::is_directory(at(name));
      if (folder && kind.what == std::string("directory")) continue;
      fs::rename(at(name), dir_ / "aside");
      kind.make(dir_ / "made");  // a socket's path must be short
      fs::rename(dir_ / "made", at(name));
      for (const char* subcommand : {"list", "stat", "epochs"}) {
        on_journal(subcommand);
      }
      on_journal("show", {"64"});
      on_journal("follow", {"--since", "1h", "--limit", "1"});
      const int status = on_journal("verify");
      // One who made the volume file something else gets told that it is no journal.
      const bool note = name == "pre-images/log";
      EXPECT_EQ(status, name == "volume" ? 1 : note ? 0 : 5) << name << " " << kind.what << out_;
      if (status == 5) {
        EXPECT_TRUE(said("to do: ")) << out_;
        EXPECT_TRUE(said("pre-images") && said("epochs ")) << "all checks were made: " << out_;
      }
      fs::remove(at(name));
      fs::rename(dir_ / "aside", at(name));
    }
  }
  expect_all(0, "all is as it was");
}

TEST_F(HostileFolder, BadSegmentIsSteppedOver) {
  close();
  EXPECT_EQ(list(), 0);
  const size_t all = lines();
  poke(segment_file(1), 20, "x");
  expect_all(5, "a bad header");
  EXPECT_EQ(list(), 5);
  EXPECT_GT(lines(), all / 4);
  EXPECT_LT(lines(), all);
  EXPECT_TRUE(complained("bad checksum")) << err_;
  EXPECT_EQ(on_journal("show", {fmt::format("{}", kSegment + 64)}), 5) << err_;
  EXPECT_EQ(on_journal("show", {"64"}), 0);
  EXPECT_EQ(on_journal("follow", {"--since", "1h", "--limit", "2000"}), 3);
  EXPECT_TRUE(complained("are no records")) << err_;
}

// It claims more entries than could ever be read.
TEST_F(HostileFolder, ManifestThatClaimsToBeHugeEndsNoCommandLate) {
  close();
  fs::resize_file(at("epochs"), uint64_t{1} << 42);
  EXPECT_EQ(on_journal("verify"), 5);
  EXPECT_TRUE(said("the entries of epochs 4 to ")) << out_;
  EXPECT_LT(lines(), 40u);
  EXPECT_EQ(on_journal("epochs"), 5);
}

TEST_F(HostileFolder, SegmentThatClaimsToBeHugeIsReadAsFarAsItMayGo) {
  close();
  fs::resize_file(segment_file(0), uint64_t{1} << 42);
  EXPECT_EQ(list(), 0);
  EXPECT_EQ(on_journal("verify"), 5);
}

// ---- records that are lost ----

TEST_F(HostileFolder, SegmentCutShortOfASealedEpochIsTold) {
  close();
  fs::resize_file(segment_file(tail_segment()), 4096);
  fs::resize_file(segment_file(tail_segment()), kSegment);
  expect_all(5, "the records up to the newest seal are gone");
  EXPECT_EQ(list(), 5);
  EXPECT_TRUE(complained("missing")) << err_;
  EXPECT_EQ(list({"--epoch", "1..2"}), 0) << err_;
  EXPECT_EQ(on_journal("epochs"), 5);
  EXPECT_TRUE(said("    3000         -")) << "what epoch 3 came to is unknown: " << out_;
}

TEST_F(HostileFolder, AllSegmentsGoneIsTold) {
  close();
  for (const bool folder : {false, true}) {
    fs::remove_all(at("segments"));
    if (!folder) fs::create_directory(at("segments"));
    expect_all(5, folder ? "no folder" : "no files");
    EXPECT_EQ(on_journal("show", {"64"}), 5);
  }
  fs::create_directory(at("segments"));
  EXPECT_EQ(on_journal("epochs", {"--json"}), 5);
  EXPECT_EQ(lines(), 4u) << out_;
  EXPECT_FALSE(said("\"net\"")) << "nothing is known: " << out_;
  EXPECT_EQ(on_journal("stat", {"--json"}), 5);
}

TEST_F(HostileFolder, MissingSegmentIsToldInBothDirections) {
  close();
  fs::remove(segment_file(1));
  expect_all(5, "a segment is gone");
}

TEST_F(HostileFolder, DamageBehindTheNewestBarrierOfACleanJournalIsTold) {
  const Lsn first = append(write_of(8));
  append(write_of(9));
  const Lsn last = append(write_of(10));
  close();
  const std::string saved = read_whole_file(segment_file(value(last) / kSegment));
  for (const Lsn lsn : {first, last}) {
    poke_log(Lsn{value(lsn) + 20}, "damage");
    expect_all(5, fmt::format("LSN {}", value(lsn)));
    EXPECT_EQ(on_journal("show", {fmt::format("{}", value(lsn))}), 5);
    EXPECT_EQ(on_journal("epochs", {"--epoch", "4"}), 5);
    EXPECT_TRUE(said("         -         -")) << out_;
    write_file(segment_file(value(last) / kSegment), saved);
    expect_all(0, "as it was");
  }
  // Of a mount that was killed it may be a record that was being written.
  poke(at("in-flight"), 12, std::string(4, '\0'));
  poke_log(Lsn{value(first) + 20}, "damage");
  expect_all(0, "a killed writer");
}

// ---- what is printed ----

TEST_F(HostileFolder, PathsArePrintedEscaped) {
  close();
  const std::string odd = dir_ / "odd\x1b[2J\n\xff";
  fs::copy(volume_.path(), odd, fs::copy_options::recursive);
  poke(odd + "/segments/" + journal::segment_name(0), 64 + 20, "damage");
  for (const char* subcommand : {"list", "stat", "epochs", "verify", "show"}) {
    for (const char* json : {"", "--json"}) {
      Arguments arguments = {subcommand, odd};
      if (subcommand == std::string("show")) arguments.push_back("64");
      if (*json) arguments.push_back(json);
      EXPECT_EQ(run(arguments), 5) << subcommand;
      EXPECT_TRUE(is_utf8(out_)) << subcommand << out_;
      EXPECT_EQ(out_.find('\x1b'), std::string::npos) << subcommand << out_;
      EXPECT_EQ(err_.find('\x1b'), std::string::npos) << err_;
      EXPECT_TRUE(is_utf8(err_)) << err_;
    }
  }
  EXPECT_EQ(run({"stat", odd, "--json"}), 5);
  EXPECT_TRUE(said("odd\\\\x1b[2J\\\\n\\\\xff\"")) << out_;
  fs::remove(odd + "/volume");
  EXPECT_EQ(run({"list", odd}), 1);
  EXPECT_TRUE(is_utf8(err_) && !complained("\x1b")) << err_;
  EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 1) << err_;
}

// Only a mount's own answer says where its journal is.
TEST_F(HostileFolder, AttributeOfAnOrdinaryDirectoryNamesNoJournal) {
  const std::string trap = dir_ / "trap";
  fs::create_directory(trap);
  if (::setxattr(trap.c_str(), journal::kJournalXattr, volume_.path().data(), volume_.path().size(),
                 0) != 0) {
    GTEST_SKIP() << "this file system has no extended attributes of users";
  }
  EXPECT_EQ(run({"stat", trap}), 1);
  EXPECT_TRUE(complained("neither an epochfs mount nor a journal")) << err_;
}

// ---- a file that is cut while it is read ----

TEST_F(HostileFolder, SegmentCutUnderAViewReadsAsZeros) {
  close();
  const journal::CutFilesReadAsZeros guard;
  const journal::LogView view = must(journal::LogView::open(volume_));
  EXPECT_FALSE(view.lost_behind_end());
  for (const auto& [index, name] : must(journal::list_segments(volume_.dir()))) {
    fs::resize_file(segment_file(index), index == 0 ? 4096 : 0);
  }
  EXPECT_LT(value(view.end()), 4096u);
  EXPECT_TRUE(view.lost_behind_end());
}

TEST_F(HostileFolder, FollowGoesOnBehindASegmentThatWasCutUnderIt) {
  close();
  const std::string cursor = dir_ / "cursor";
  std::thread cutter([&] {
    // It has read what there is, and looks at the end of the log again and again.
    eventually("the follower's cursor", [&] { return fs::exists(cursor); });
    const uint64_t tail = tail_segment();
    fs::resize_file(segment_file(tail), journal::kSegmentHeaderBytes);
    begin_at(tail + 2, EpochId{4});  // the one behind it was made ahead
  });
  EXPECT_EQ(on_journal("follow", {"--epoch", "1..", "--limit", "3007", "--cursor", cursor}), 3)
      << err_;
  cutter.join();
  EXPECT_EQ(lines(), 3007u);
}

}  // namespace
}  // namespace epochfs::testing
