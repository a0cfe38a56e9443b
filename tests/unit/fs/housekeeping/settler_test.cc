// Settler and suspects: in which order is what made durable, and does a file that may
// have lost bytes give itself away?
#include "fs/housekeeping/settler.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "fs/housekeeping/suspects.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;
using namespace std::chrono_literals;

// Notes which calls came, in their order.
class NotedStorage : public FailingStorage {
 public:
  Result<void> sync_data(const char* label, int fd, std::string_view what) override {
    note(label);
    return FailingStorage::sync_data(label, fd, what);
  }
  Result<void> sync_filesystem(const char* label, int fd, std::string_view what) override {
    note(label);
    if (meanwhile) meanwhile();
    return FailingStorage::sync_filesystem(label, fd, what);
  }
  std::vector<std::string> calls() {
    std::lock_guard lock(mutex_);
    return std::exchange(calls_, {});
  }
  std::function<void()> meanwhile;  // while the file system is synced

 private:
  void note(const char* label) {
    std::lock_guard lock(mutex_);
    calls_.push_back(label);
  }
  std::mutex mutex_;
  std::vector<std::string> calls_;
};

class SettlerTest : public JournalTest {
 protected:
  void SetUp() override {
    journal_ = must(journal::Journal::open(noted_, volume_, lookup_, report_));
    settler_ = std::make_unique<Settler>(noted_, *journal_, volume_.dir());
    noted_.calls();
  }
  void append() {
    journal::Record r = write_of(7);
    ASSERT_NE(journal_->append(r), Lsn{0});
  }
  NotedStorage noted_;
  std::unique_ptr<Settler> settler_;
};

TEST_F(SettlerTest, JournalThenBackingDirectoryThenTheMark) {
  append();
  const Lsn tail = journal_->tail();
  must(settler_->settle());
  EXPECT_EQ(noted_.calls(), (std::vector<std::string>{"segment-sync", "backing", "settled"}));
  EXPECT_EQ(journal_->settled(), tail);
  must(settler_->settle());
  EXPECT_TRUE(noted_.calls().empty()) << "nothing was recorded since";
  EXPECT_FALSE(settler_->due());
}

TEST_F(SettlerTest, WhatIsRecordedMeanwhileIsNotSettled) {
  append();
  const Lsn tail = journal_->tail();
  noted_.meanwhile = [&] { append(); };
  must(settler_->settle());
  EXPECT_EQ(journal_->settled(), tail);
  EXPECT_GT(journal_->tail(), tail);
}

TEST_F(SettlerTest, FailureOfAnyStepLeavesTheMark) {
  append();
  for (const char* label : {"segment-sync", "backing", "settled"}) {
    noted_.failing_label = label;
    EXPECT_FALSE(settler_->settle()) << label;
    EXPECT_EQ(journal_->settled(), Lsn{0}) << label;
  }
  noted_.failing_label = "";
  must(settler_->settle());
  EXPECT_EQ(journal_->settled(), journal_->tail());
}

TEST_F(SettlerTest, JournalIsSyncedWithinAboutASecondOfARecordAndThenNoMore) {
  settler_->start([] { ADD_FAILURE() << "nothing is due so soon"; });
  append();
  std::vector<std::string> calls;
  for (int i = 0; calls.empty() && i < 1000; ++i) {
    std::this_thread::sleep_for(10ms);
    calls = noted_.calls();
  }
  EXPECT_EQ(calls, std::vector<std::string>{"segment-sync"});
  std::this_thread::sleep_for(2200ms);
  EXPECT_TRUE(noted_.calls().empty());
  append();
  for (int i = 0; (calls = noted_.calls()).empty() && i < 1000; ++i)
    std::this_thread::sleep_for(10ms);
  EXPECT_EQ(calls, std::vector<std::string>{"segment-sync"});
  settler_->stop();
}

// ---- suspects ----

class SuspectsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "opening by handle takes root";
    root_ = must(open_directory(dir_ / ""));
  }
  struct Seen {
    FileId id;
    FileHandle handle;
    struct stat st;
  };
  Seen look(const std::string& name) {
    Seen seen;
    struct statx a;
    EXPECT_EQ(identify(root_.get(), name.c_str(), a, seen.handle), 0);
    seen.id = file_id(a);
    EXPECT_EQ(::lstat((dir_ / name).c_str(), &seen.st), 0);
    return seen;
  }
  static bool same_time(const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  }
  Result<bool> mark(const Seen& seen) {
    std::this_thread::sleep_for(20ms);  // the kernel's clock for files ticks slowly
    return give_new_ctime(root_.get(), seen.id, seen.handle);
  }
  void expect_only_ctime_moves(const std::string& name) {
    const Seen before = look(name);
    EXPECT_TRUE(must(mark(before)));
    const Seen after = look(name);
    EXPECT_FALSE(same_time(before.st.st_ctim, after.st.st_ctim)) << name;
    EXPECT_TRUE(same_time(before.st.st_mtim, after.st.st_mtim)) << name;
    EXPECT_EQ(before.st.st_mode, after.st.st_mode) << name;
    EXPECT_EQ(before.st.st_size, after.st.st_size) << name;
    EXPECT_EQ(before.st.st_uid, after.st.st_uid) << name;
  }

  TemporaryDirectory dir_;
  UniqueFd root_;
};

TEST_F(SuspectsTest, OnlyCtimeMoves) {
  write_file(dir_ / "plain", "bytes");
  expect_only_ctime_moves("plain");
  write_file(dir_ / "set-id", "bytes");
  ASSERT_EQ(::chown((dir_ / "set-id").c_str(), 1234, 4321), 0);
  ASSERT_EQ(::chmod((dir_ / "set-id").c_str(), 06711), 0);
  expect_only_ctime_moves("set-id");
}

TEST_F(SuspectsTest, ImmutableFileGetsOneToo) {
  write_file(dir_ / "fixed", "bytes");
  UniqueFd fd(::open((dir_ / "fixed").c_str(), O_RDONLY | O_CLOEXEC));
  int flags = 0;
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) GTEST_SKIP() << "no flags here";
  int fixed = flags | FS_IMMUTABLE_FL;
  if (::ioctl(fd.get(), FS_IOC_SETFLAGS, &fixed) != 0) GTEST_SKIP() << "none can be set";
  expect_only_ctime_moves("fixed");
  EXPECT_EQ(::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags), 0);
}

TEST_F(SuspectsTest, AllGetOneInEveryDirectory) {
  ASSERT_EQ(::mkdir((dir_ / "a").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((dir_ / "a/b").c_str(), 0), 0);
  const std::vector<std::string> names = {"one", "a/two", "a/b/three"};
  std::vector<Seen> before;
  for (const std::string& name : names) {
    write_file(dir_ / name, "bytes");
    before.push_back(look(name));
  }
  ASSERT_EQ(::symlink("one", (dir_ / "link").c_str()), 0);
  std::this_thread::sleep_for(20ms);
  EXPECT_TRUE(must(give_all_new_ctimes(root_.get())));
  for (size_t i = 0; i < names.size(); ++i) {
    const Seen after = look(names[i]);
    EXPECT_FALSE(same_time(before[i].st.st_ctim, after.st.st_ctim)) << names[i];
    EXPECT_TRUE(same_time(before[i].st.st_mtim, after.st.st_mtim)) << names[i];
    EXPECT_EQ(before[i].st.st_mode, after.st.st_mode) << names[i];
  }
}

TEST_F(SuspectsTest, WhatIsGoneOrAnotherOrNoRegularFileIsLeftAlone) {
  write_file(dir_ / "gone", "bytes");
  Seen gone = look("gone");
  ASSERT_EQ(::unlink((dir_ / "gone").c_str()), 0);
  EXPECT_FALSE(must(mark(gone)));
  write_file(dir_ / "other", "bytes");
  Seen other = look("other");
  ++other.id.birth_ns;
  EXPECT_FALSE(must(mark(other)));
  EXPECT_TRUE(same_time(look("other").st.st_ctim, other.st.st_ctim));
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  EXPECT_FALSE(must(mark(look("fifo"))));
}

}  // namespace
}  // namespace epochfs::fs
