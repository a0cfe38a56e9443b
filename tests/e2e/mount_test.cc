// What can an application see through the mount that it could not see without it?
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <sstream>

#include "journal/base/unix.h"
#include "tests/e2e/host.h"
#include "tests/support/files.h"

namespace epochfs::testing {
namespace {

class MountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    host_ = std::make_unique<Host>("m");
    data_ = host_->make_directory("data");
    host_->mount(data_);
  }
  std::string operator/(const std::string& name) const { return data_ + "/" + name; }
  // The journal's lines that begin with this operation and file.
  size_t count_records(const std::string& operation, ino_t inode) const {
    std::istringstream lines(host_->must({"journal", "list", data_}));
    size_t count = 0;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream in(line);
      std::string lsn, time, epoch, what;
      uint64_t file = 0;
      if (in >> lsn >> time >> epoch >> what >> file && what == operation && file == inode) ++count;
    }
    return count;
  }

  std::unique_ptr<Host> host_;

 private:
  std::string data_;
};

struct stat status_of(const std::string& path) {
  struct stat st {};
  EXPECT_EQ(::stat(path.c_str(), &st), 0);
  return st;
}

// POSIX leaves it open; Linux file systems clear set-id bits and stamp the inode.
TEST_F(MountTest, ChownThatNamesNobodyIsAChange) {
  const std::string path = *this / "file";
  write_file(path, "x");
  ASSERT_EQ(::chmod(path.c_str(), 06755), 0);
  const struct stat before = status_of(path);
  ::usleep(50'000);
  ASSERT_EQ(::chown(path.c_str(), uid_t(-1), gid_t(-1)), 0);
  const struct stat after = status_of(path);
  EXPECT_EQ(after.st_mode & 07777, 0755u);
  EXPECT_TRUE(after.st_ctim.tv_sec != before.st_ctim.tv_sec ||
              after.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
}

// XFS moves the mtime of both, not only of the directories that they are in.
TEST_F(MountTest, AnExchangeOfDirectoriesIsAChangeOfBoth) {
  for (const char* name : {"a", "a/x", "b", "b/y"}) make_directory(*this / name);
  const ino_t x = status_of(*this / "a/x").st_ino, y = status_of(*this / "b/y").st_ino;
  ASSERT_EQ(::renameat2(AT_FDCWD, (*this / "a/x").c_str(), AT_FDCWD, (*this / "b/y").c_str(),
                        RENAME_EXCHANGE),
            0);
  EXPECT_EQ(count_records("rename", x), 1u);
  EXPECT_EQ(count_records("setattr", y), 1u);
}

// Within a tick of the write before it, the kernel moves no mtime and so sends none.
TEST_F(MountTest, WithWritebackADirectWriteLeavesTheKernelsMtime) {
  // In memory, so that an fsync takes less than a tick.
  const std::string memory = host_->make_directory("memory");
  ASSERT_EQ(::mount("tmpfs", memory.c_str(), "tmpfs", 0, nullptr), 0);
  const std::string backing = memory + "/backing";
  make_directory(backing);
  const std::string at = host_->make_directory("at");
  host_->mount(at, {"--backing", backing, "--journal", memory + "/journal", "-o", "writeback"});
  const std::string path = at + "/file";
  alignas(4096) static char page[4096] = "x";
  UniqueFd buffered(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  UniqueFd direct(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
  ASSERT_TRUE(buffered && direct);
  for (int round = 0; round < 200; ++round) {
    ASSERT_EQ(::pwrite(buffered.get(), page, sizeof page, 0), ssize_t(sizeof page));
    ASSERT_EQ(::fsync(buffered.get()), 0);
    ASSERT_EQ(::pwrite(direct.get(), page, sizeof page, 0), ssize_t(sizeof page));
    ASSERT_EQ(::fsync(direct.get()), 0);
    const struct stat shown = status_of(path), stored = status_of(backing + "/file");
    ASSERT_EQ(shown.st_mtim.tv_sec, stored.st_mtim.tv_sec) << "in round " << round;
    ASSERT_EQ(shown.st_mtim.tv_nsec, stored.st_mtim.tv_nsec) << "in round " << round;
  }
}

TEST_F(MountTest, StatusSaysWhatIsInForceAndWhatTheMountTakesUp) {
  write_file(*this / "file", "x");
  UniqueFd open(::open((*this / "file").c_str(), O_RDONLY));
  host_->must({"barrier", *this / ""});
  const std::string text = host_->must({"status", *this / ""});
  EXPECT_NE(text.find("in force        posix_acl"), std::string::npos) << text;
  EXPECT_NE(text.find("not in force    passthrough: "), std::string::npos) << text;
  EXPECT_NE(text.find("barriers        1, 0 called off"), std::string::npos) << text;
  EXPECT_NE(text.find(" known, 1 open\n"), std::string::npos) << text;

  const std::string json = host_->must({"status", *this / "", "--json"});
  EXPECT_EQ(json.find("\"residentBytes\":\"0\""), std::string::npos) << json;
  EXPECT_NE(json.find("\"openFiles\":\"1\""), std::string::npos) << json;
}

TEST_F(MountTest, StatusOfWhatIsNoMountNamesTheRemedy) {
  const Outcome none = host_->epochfs({"status", host_->folder() + "/"});
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("neither an epochfs mount nor a journal folder"), std::string::npos)
      << none.err;
  const std::string other = host_->make_directory("other");
  host_->mount(other);
  host_->kill_mount(other);
  const Outcome dead = host_->epochfs({"status", other});
  EXPECT_EQ(dead.status, 6);
  EXPECT_NE(dead.err.find("the mount's process has ended"), std::string::npos) << dead.err;
}

// Each option of the mount does what it says, as far as the mount itself can tell.
TEST_F(MountTest, OptionsTakeEffect) {
  const std::string other = host_->make_directory("other");
  host_->mount(other, {"-o", "writeback,wakeup=never,transport=device"});
  const std::string text = host_->must({"status", other});
  EXPECT_NE(text.find(", writeback"), std::string::npos) << text;
  EXPECT_NE(text.find("not wanted (-o wakeup=never)"), std::string::npos) << text;
  EXPECT_NE(text.find("not wanted (-o transport=device)"), std::string::npos) << text;
  EXPECT_NE(text.find("cores awake     0.000 s"), std::string::npos) << text;
}

}  // namespace
}  // namespace epochfs::testing
