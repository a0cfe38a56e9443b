// Are cores kept awake while requests come thick and fast, and only then?
#include "fs/base/idle_latency.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/unit/support.h"

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
  Wakeup wakeup(WakeupMode::kAdaptive, device_);
  EXPECT_EQ(wakeup.unavailable(), "");
  EXPECT_EQ(bound(), kNoBound);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(eventually([&] {
      wakeup.arrived();
      return wakeup.holding();
    }));
    EXPECT_LE(bound(), 2);
    ASSERT_TRUE(eventually([&] { return !wakeup.holding(); }));
    EXPECT_EQ(bound(), kNoBound);
  }
  EXPECT_GT(wakeup.held(), 0ns);
}

// One request an interval is not thick and fast, however long it goes on.
TEST_F(WakeupTest, FewRequestsAreNoReason) {
  Wakeup wakeup(WakeupMode::kAdaptive, device_, {.begin = 20, .end = 10, .interval = 1ms});
  for (int i = 0; i < 50; ++i) {
    wakeup.arrived();
    std::this_thread::sleep_for(2ms);
    ASSERT_FALSE(wakeup.holding());
  }
  EXPECT_EQ(wakeup.held(), 0ns);
}

TEST_F(WakeupTest, AlwaysHoldsFromTheBeginning) {
  Wakeup wakeup(WakeupMode::kAlways, device_);
  EXPECT_TRUE(wakeup.holding());
  EXPECT_LE(bound(), 2);
}

TEST_F(WakeupTest, NeverTouchesNothing) {
  Wakeup wakeup(WakeupMode::kNever, device_);
  for (int i = 0; i < 1000; ++i) wakeup.arrived();
  EXPECT_FALSE(wakeup.holding());
  EXPECT_EQ(bound(), -1);
  EXPECT_NE(wakeup.unavailable().find("wakeup=never"), std::string::npos);
}

TEST_F(WakeupTest, SaysWhyItCannot) {
  Wakeup wakeup(WakeupMode::kAdaptive, folder_.path() + "/missing");
  for (int i = 0; i < 1000; ++i) wakeup.arrived();
  EXPECT_FALSE(wakeup.holding());
  EXPECT_NE(wakeup.unavailable().find("/missing: No such file"), std::string::npos);
}

TEST_F(WakeupTest, CountsFromManyThreads) {
  Wakeup wakeup(WakeupMode::kAdaptive, device_);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (!stop) wakeup.arrived();
    });
  }
  EXPECT_TRUE(eventually([&] { return wakeup.holding(); }));
  stop = true;
  for (auto& t : threads) t.join();
  EXPECT_TRUE(eventually([&] { return !wakeup.holding(); }));
}

}  // namespace
}  // namespace epochfs::testing
