// What does an application find out through the mount that it would not without?
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

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

}  // namespace
}  // namespace epochfs::testing
