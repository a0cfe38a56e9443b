// What does an application find out through the mount that it would not without?
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <sstream>

#include "tests/e2e/files.h"
#include "tests/e2e/host.h"

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

 private:
  std::unique_ptr<Host> host_;
  std::string data_;
};

struct stat status_of(const std::string& path) {
  struct stat st{};
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
                        RENAME_EXCHANGE), 0);
  EXPECT_EQ(count_records("rename", x), 1u);
  EXPECT_EQ(count_records("setattr", y), 1u);
}

}  // namespace
}  // namespace epochfs::testing
