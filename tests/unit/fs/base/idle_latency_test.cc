// Are cores kept awake while requests come thick and fast, and only then?
#include "fs/base/idle_latency.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/support/temporary_directory.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

using namespace std::chrono_literals;

constexpr int32_t kNoBound = 2'000'000'000;

class WakeupTest : public ::testing::Test {
 protected:
  WakeupTest() { UniqueFd(::open(device_.c_str(), O_CREAT | O_WRONLY, 0600)); }

  // What was last written to the "device"; -1: nothing.
  int32_t bound() const {
    UniqueFd fd(::open(device_.c_str(), O_RDONLY));
    int32_t value = -1;
    return ::pread(fd.get(), &value, sizeof value, 0) == sizeof value ? value : -1;
  }
  bool eventually(const std::function<bool()>& condition) {
    for (const auto until = std::chrono::steady_clock::now() + 20s;
         std::chrono::steady_clock::now() < until;) {
      if (condition()) return true;
    }
    return false;
  }

  TemporaryDirectory folder_;
  const std::string device_ = folder_.path() + "/latency";
};

TEST_F(WakeupTest, HoldsWhileRequestsComeAndLetsGoInCalm) {
  fs::IdleLatency idle(fs::WakeupMode::kAdaptive, device_);
  EXPECT_EQ(idle.unavailable(), "");
  EXPECT_EQ(bound(), kNoBound);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(eventually([&] {
      idle.arrived();
      return idle.holding();
    }));
    EXPECT_LE(bound(), 2);
    ASSERT_TRUE(eventually([&] { return !idle.holding(); }));
    EXPECT_EQ(bound(), kNoBound);
  }
  EXPECT_GT(idle.held(), 0ns);
}

// One request an interval is not thick and fast, however long it goes on.
TEST_F(WakeupTest, FewRequestsAreNoReason) {
  fs::IdleLatency idle(fs::WakeupMode::kAdaptive, device_,
                       {.begin = 20, .end = 10, .interval = 1ms});
  for (int i = 0; i < 50; ++i) {
    idle.arrived();
    std::this_thread::sleep_for(2ms);
    ASSERT_FALSE(idle.holding());
  }
  EXPECT_EQ(idle.held(), 0ns);
}

TEST_F(WakeupTest, AlwaysHoldsFromTheBeginning) {
  fs::IdleLatency idle(fs::WakeupMode::kAlways, device_);
  EXPECT_TRUE(idle.holding());
  EXPECT_LE(bound(), 2);
}

TEST_F(WakeupTest, NeverTouchesNothing) {
  fs::IdleLatency idle(fs::WakeupMode::kNever, device_);
  for (int i = 0; i < 1000; ++i) idle.arrived();
  EXPECT_FALSE(idle.holding());
  EXPECT_EQ(bound(), -1);
  EXPECT_NE(idle.unavailable().find("wakeup=never"), std::string::npos);
}

TEST_F(WakeupTest, SaysWhyItCannot) {
  fs::IdleLatency idle(fs::WakeupMode::kAdaptive, folder_.path() + "/missing");
  for (int i = 0; i < 1000; ++i) idle.arrived();
  EXPECT_FALSE(idle.holding());
  EXPECT_NE(idle.unavailable().find("/missing: No such file"), std::string::npos);
}

TEST_F(WakeupTest, CountsFromManyThreads) {
  fs::IdleLatency idle(fs::WakeupMode::kAdaptive, device_);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (!stop) idle.arrived();
    });
  }
  EXPECT_TRUE(eventually([&] { return idle.holding(); }));
  stop = true;
  for (auto& t : threads) t.join();
  EXPECT_TRUE(eventually([&] { return !idle.holding(); }));
}

}  // namespace
}  // namespace epochfs::testing
