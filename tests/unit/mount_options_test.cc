// What does "-o" ask for, and what is refused?
#include "fs/mount_options.h"

#include <gtest/gtest.h>

namespace epochfs::testing {
namespace {

MountOptions parsed(const std::vector<std::string>& values) {
  auto options = parse_mount_options(values);
  EXPECT_TRUE(options.has_value()) << options.error().message();
  return options.value_or(MountOptions{});
}

TEST(MountOptions, WriteThroughAndAdaptiveUnlessTold) {
  EXPECT_FALSE(parsed({}).writeback);
  EXPECT_EQ(parsed({}).wakeup, WakeupMode::kAdaptive);
  EXPECT_TRUE(parsed({"rw,writeback"}).writeback);
  EXPECT_FALSE(parsed({"writeback", "writethrough"}).writeback);  // the last counts
  EXPECT_EQ(parsed({"wakeup=always"}).wakeup, WakeupMode::kAlways);
  EXPECT_EQ(parsed({"wakeup=never"}).wakeup, WakeupMode::kNever);
  EXPECT_TRUE(parsed({}).io_uring);
  EXPECT_FALSE(parsed({"transport=device"}).io_uring);
}

TEST(MountOptions, UserImpliesWhatMountHasIt) {
  EXPECT_TRUE(parsed({}).suid);
  EXPECT_FALSE(parsed({"user"}).suid);
  EXPECT_TRUE(parsed({"user,exec"}).exec);
  EXPECT_FALSE(parsed({"users"}).dev);
}

TEST(MountOptions, WhatOthersMeanIsPassedOver) {
  parsed({"defaults,noatime,_netdev,x-systemd.automount,comment=hello,,nofail"});
}

TEST(MountOptions, RefusedByName) {
  for (const char* option : {"ro", "remount", "sync", "wakeup", "wakeup=sometimes", "transport=pigeon", "frob"}) {
    auto refused = parse_mount_options({std::string("rw,") + option});
    ASSERT_FALSE(refused.has_value()) << option;
    EXPECT_NE(refused.error().message().find(option), std::string::npos);
    EXPECT_EQ(refused.error().status, ExitStatus::kUsage);
  }
}

}  // namespace
}  // namespace epochfs::testing
