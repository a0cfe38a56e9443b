// What stays the same when the mount comes and goes? How does it get on with other mounts?
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>

#include "tests/e2e/odd_trees.h"
#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

class Mounts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    host_ = std::make_unique<Host>("mounts");
    data_ = host_->make_directory("data");
    make_directory(data_ + "/sub");
    write_file(data_ + "/sub/covered", "of the directory");
  }

  // A file system of its own on `path`, with one file.
  static void mount_memory(const std::string& path) {
    if (::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=1m") != 0) throw_errno("mount tmpfs");
    write_file(path + "/nested", "of the nested one");
  }
  static void unmount_memory(const std::string& path) {
    if (::umount2(path.c_str(), UMOUNT_NOFOLLOW) != 0) throw_errno("unmount " + path);
  }
  static bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

  std::unique_ptr<Host> host_;
  std::string data_;
};

// What an application can keep in mind: inode number, birth, device type.
using Identity = std::pair<uint64_t, std::pair<int64_t, uint32_t>>;
std::map<std::string, Identity> identities(const std::string& directory,
                                           const std::vector<std::string>& names) {
  std::map<std::string, Identity> found;
  for (const std::string& name : names) {
    struct statx a {};
    if (::statx(AT_FDCWD, (directory + "/" + name).c_str(), AT_SYMLINK_NOFOLLOW,
                STATX_BASIC_STATS | STATX_BTIME, &a) != 0) {
      throw_errno("stat " + name);
    }
    found[name] = {a.stx_ino, {a.stx_btime.tv_sec, a.stx_btime.tv_nsec}};
  }
  return found;
}

TEST_F(Mounts, InodeNumbersAndBirthsStay) {
  make_odd_tree(data_ + "/odd");
  write_file(data_ + "/file", "content");
  const std::vector<std::string> names = {".", "file", "sub", "sub/covered", "odd"};
  const auto beneath = identities(data_, names);
  for (int round = 0; round < 3; ++round) {
    host_->mount(data_);
    EXPECT_EQ(identities(data_, names), beneath);
    host_->unmount(data_);
  }
  EXPECT_EQ(identities(data_, names), beneath);
}

TEST_F(Mounts, WhatWasMadeInTheMountKeepsItsInode) {
  host_->mount(data_);
  write_file(data_ + "/new", "content");
  const auto above = identities(data_, {"new"});
  host_->unmount(data_);
  EXPECT_EQ(identities(data_, {"new"}), above);
  EXPECT_EQ(read_whole_file(data_ + "/new"), "content");
}

// Mounted before: the covered directory shows, since the mount is of the directory.
TEST_F(Mounts, ANestedOneFromBeforeIsNotSeen) {
  mount_memory(data_ + "/sub");
  host_->mount(data_);
  EXPECT_TRUE(is_there(data_ + "/sub/covered"));
  EXPECT_FALSE(is_there(data_ + "/sub/nested"));
  write_file(data_ + "/sub/written", "to the covered directory");
  EXPECT_EQ(::rmdir((data_ + "/sub").c_str()), -1);
  host_->unmount(data_);
  EXPECT_TRUE(is_there(data_ + "/sub/nested"));
  EXPECT_FALSE(is_there(data_ + "/sub/written"));
  unmount_memory(data_ + "/sub");
  EXPECT_EQ(read_whole_file(data_ + "/sub/written"), "to the covered directory");
}

// Mounted after: it lies on top, as anywhere, and none of it is recorded.
TEST_F(Mounts, ANestedOneFromAfterwardsLiesOnTop) {
  host_->mount(data_);
  mount_memory(data_ + "/sub");
  EXPECT_FALSE(is_there(data_ + "/sub/covered"));
  EXPECT_TRUE(is_there(data_ + "/sub/nested"));
  write_file(data_ + "/sub/in-memory", "not recorded");
  EXPECT_EQ(::rename((data_ + "/sub/nested").c_str(), (data_ + "/nested").c_str()), -1);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_EQ(::rmdir((data_ + "/sub").c_str()), -1);
  EXPECT_EQ(errno, EBUSY);
  const std::string records = host_->epochfs({"journal", "list", data_}).out;
  EXPECT_EQ(records.find("in-memory"), std::string::npos);

  const Outcome busy = host_->epochfs({"unmount", data_});
  EXPECT_EQ(busy.status, 1);
  EXPECT_NE(busy.err.find("the mount of " + data_ + "/sub"), std::string::npos) << busy.err;
  unmount_memory(data_ + "/sub");
  EXPECT_TRUE(is_there(data_ + "/sub/covered"));
  host_->unmount(data_);
}

TEST_F(Mounts, ABusyUnmountSaysWhoUsesIt) {
  host_->mount(data_);
  struct Holder {
    Command command;
    const char* expected;
  };
  const Holder holders[] = {
      {{.argv = {"sleep", "1000"}, .directory = data_}, "working directory"},
      {{.argv = {"sh", "-c", "exec 5<" + data_ + "/sub/covered; echo open; exec sleep 1000"}},
       "covered"},
  };
  for (const Holder& holder : holders) {
    Background user(holder.command);
    if (holder.command.directory.empty()) {
      ASSERT_TRUE(user.wait_for_line("open", Milliseconds(30'000))) << user.said();
    }
    const Outcome busy = host_->epochfs({"unmount", data_});
    EXPECT_EQ(busy.status, 1);
    EXPECT_NE(busy.err.find(fmt::format("process {}", user.pid())), std::string::npos) << busy.err;
    EXPECT_NE(busy.err.find(holder.expected), std::string::npos) << busy.err;
  }
  host_->unmount(data_);
}

// A bind mount of the mount is the same files, and outlives it.
TEST_F(Mounts, ABindMountIsTheSame) {
  host_->mount(data_);
  const std::string bound = host_->make_directory("bound");
  ASSERT_EQ(::mount((data_ + "/sub").c_str(), bound.c_str(), nullptr, MS_BIND, nullptr), 0);
  write_file(bound + "/through", "the bind mount");
  EXPECT_EQ(read_whole_file(data_ + "/sub/through"), "the bind mount");
  EXPECT_EQ(identities(bound, {"covered"}), identities(data_ + "/sub", {"covered"}));
  EXPECT_EQ(::link((bound + "/through").c_str(), (data_ + "/linked").c_str()), -1);
  EXPECT_EQ(errno, EXDEV);
  unmount_memory(bound);
  host_->unmount(data_);
}

// A read-only bind mount beneath another mount of the same directory changes nothing; one
// of the mount itself refuses writes.
TEST_F(Mounts, AReadOnlyBindMountRefusesWrites) {
  host_->mount(data_);
  const std::string bound = host_->make_directory("bound");
  ASSERT_EQ(::mount(data_.c_str(), bound.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, bound.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0);
  EXPECT_EQ(::open((bound + "/new").c_str(), O_WRONLY | O_CREAT, 0644), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(::rmdir((bound + "/absent").c_str()), -1);
  EXPECT_EQ(errno, EROFS);
  write_file(data_ + "/new", "the mount itself");
  EXPECT_EQ(read_whole_file(bound + "/new"), "the mount itself");
  unmount_memory(bound);
  host_->unmount(data_);
}

}  // namespace
}  // namespace epochfs::testing
