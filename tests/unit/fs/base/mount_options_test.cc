// What does "-o" ask for, and what is refused?
#include "fs/base/mount_options.h"

#include <gtest/gtest.h>

namespace epochfs::testing {
namespace {

fs::MountOptions parsed(const std::vector<std::string>& values) {
  auto options = fs::parse_mount_options(values);
  EXPECT_TRUE(options.has_value()) << options.error().message();
  return options.value_or(fs::MountOptions{});
}

TEST(MountOptions, WriteThroughAndAdaptiveUnlessTold) {
  EXPECT_FALSE(parsed({}).writeback);
  EXPECT_EQ(parsed({}).wakeup, fs::WakeupMode::kAdaptive);
  EXPECT_TRUE(parsed({"rw,writeback"}).writeback);
  EXPECT_FALSE(parsed({"writeback", "writethrough"}).writeback);  // the last counts
  EXPECT_EQ(parsed({"wakeup=always"}).wakeup, fs::WakeupMode::kAlways);
  EXPECT_EQ(parsed({"wakeup=never"}).wakeup, fs::WakeupMode::kNever);
  EXPECT_TRUE(parsed({}).io_uring);
  EXPECT_FALSE(parsed({"transport=device"}).io_uring);
}

TEST(MountOptions, JournalsBoundsAreAmountsWithAUnit) {
  const auto none = parsed({}).housekeeping;
  EXPECT_EQ(none.quota_bytes, 0u);
  EXPECT_EQ(none.keep.bytes, 256u << 20);
  EXPECT_EQ(none.keep.age_ns, UINT64_MAX);
  EXPECT_EQ(none.when_full, fs::WhenFull::kDegrade);
  const auto some =
      parsed({"journal-quota=20G,when-full=block", "journal-keep=0,journal-keep-for=2h"})
          .housekeeping;
  EXPECT_EQ(some.quota_bytes, 20ull << 30);
  EXPECT_EQ(some.keep.bytes, 0u);
  EXPECT_EQ(some.keep.age_ns, 7200ull * 1'000'000'000);
  EXPECT_EQ(some.when_full, fs::WhenFull::kBlock);
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
  for (const char* option :
       {"ro", "remount", "sync", "wakeup", "wakeup=sometimes", "transport=pigeon", "frob",
        "when-full=panic", "journal-quota=5", "journal-quota=-1G", "journal-quota=99999999999T",
        "journal-quota=", "journal-keep=1GB", "journal-keep-for=10", "journal-keep-for=5G"}) {
    auto refused = fs::parse_mount_options({std::string("rw,") + option});
    ASSERT_FALSE(refused.has_value()) << option;
    EXPECT_NE(refused.error().message().find(option), std::string::npos);
    EXPECT_EQ(refused.error().status, ExitStatus::kUsage);
  }
}

}  // namespace
}  // namespace epochfs::testing
