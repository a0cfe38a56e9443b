#include "fs/barrier.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>
#include <vector>

namespace epochfs {
namespace {

using namespace std::chrono_literals;

// A thread's stay at the gate, as a worker has it.
struct Guest {
  explicit Guest(Barrier& b) : barrier(b), seat(b.take_seat()) {}
  ~Guest() { barrier.give_back(seat); }
  Barrier& barrier;
  Barrier::Seat* seat;
};

TEST(Barrier, CutsAtOnceWhenNobodyIsInside) {
  Barrier barrier;
  int cuts = 0;
  ASSERT_TRUE(barrier.cut(0ms, [&] { ++cuts; }));
  EXPECT_EQ(cuts, 1);
  EXPECT_EQ(barrier.statistics().cuts, 1u);
}

TEST(Barrier, NeverCutsWithSomeoneInside) {
  constexpr int kThreads = 4;
  Barrier barrier;
  std::atomic<int> inside{0};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> visits{0};
  uint64_t plain[kThreads] = {};  // written inside without a lock, read by the cut

  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Guest guest(barrier);
      while (!stop) {
        barrier.enter(guest.seat);
        inside.fetch_add(1);
        ++plain[t];
        if (visits.fetch_add(1) % 64 == 0) std::this_thread::yield();
        inside.fetch_sub(1);
        barrier.leave(guest.seat);
      }
    });
  }
  uint64_t last = 0;
  for (int i = 0; i < 300; ++i) {
    auto cut = barrier.cut(60s, [&] {
      EXPECT_EQ(inside.load(), 0);
      uint64_t sum = 0;
      for (uint64_t n : plain) sum += n;
      EXPECT_EQ(sum, visits.load());
      EXPECT_GE(sum, last);
      last = sum;
    });
    ASSERT_TRUE(cut) << cut.error().message();
    if (i % 8 == 0) std::this_thread::sleep_for(100us);
  }
  stop = true;
  for (auto& t : threads) t.join();
  EXPECT_EQ(barrier.statistics().cuts, 300u);
  EXPECT_EQ(barrier.statistics().called_off, 0u);
}

TEST(Barrier, KeepsNewOnesOutWhileItWaits) {
  Barrier barrier;
  Guest slow(barrier), late(barrier);
  std::atomic<bool> cut_done{false}, entered{false};
  barrier.enter(slow.seat);
  std::thread cutter([&] {
    ASSERT_TRUE(barrier.cut(60s, [&] {
      EXPECT_FALSE(entered);
      cut_done = true;
    }));
  });
  std::this_thread::sleep_for(20ms);
  std::thread newcomer([&] {
    barrier.enter(late.seat);
    EXPECT_TRUE(cut_done);
    entered = true;
    barrier.leave(late.seat);
  });
  std::this_thread::sleep_for(20ms);
  EXPECT_FALSE(cut_done);
  EXPECT_FALSE(entered);
  barrier.leave(slow.seat);
  cutter.join();
  newcomer.join();
  EXPECT_TRUE(entered);
  EXPECT_GE(barrier.statistics().last_pause_ns, 20'000'000u);
  EXPECT_EQ(barrier.statistics().last_pause_ns, barrier.statistics().max_pause_ns);
  EXPECT_EQ(barrier.statistics().p99_pause_ns, barrier.statistics().max_pause_ns);
  // One long pause among many short ones is beyond the 99th percentile.
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(barrier.cut(10s, [] {}));
  EXPECT_LT(barrier.statistics().p99_pause_ns, barrier.statistics().max_pause_ns);
  EXPECT_GT(barrier.statistics().p99_pause_ns, 0u);
}

TEST(Barrier, IsCalledOffWhenItCannotDrain) {
  Barrier barrier;
  Guest stuck(barrier), other(barrier);
  barrier.enter(stuck.seat);
  bool cut = false;
  auto result = barrier.cut(30ms, [&] { cut = true; });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ExitStatus::kTimedOut);
  EXPECT_NE(result.error().message().find("1 operations"), std::string::npos);
  EXPECT_FALSE(cut);
  EXPECT_EQ(barrier.statistics().called_off, 1u);
  EXPECT_EQ(barrier.statistics().cuts, 0u);

  // The gate is open again, and the next one works.
  barrier.enter(other.seat);
  barrier.leave(other.seat);
  barrier.leave(stuck.seat);
  EXPECT_TRUE(barrier.cut(1s, [&] { cut = true; }));
  EXPECT_TRUE(cut);
}

TEST(Barrier, CutsTakeTurns) {
  Barrier barrier;
  std::atomic<int> running{0}, cuts{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        ASSERT_TRUE(barrier.cut(60s, [&] {
          EXPECT_EQ(running.fetch_add(1), 0);
          ++cuts;
          running.fetch_sub(1);
        }));
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(cuts, 200);
}

TEST(Barrier, SeatsAreTakenAndGivenBackDuringCuts) {
  Barrier barrier;
  std::atomic<bool> stop{false};
  std::atomic<int> inside{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        Guest guest(barrier);
        barrier.enter(guest.seat);
        ++inside;
        --inside;
        barrier.leave(guest.seat);
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(barrier.cut(60s, [&] { EXPECT_EQ(inside, 0); }));
  }
  stop = true;
  for (auto& t : threads) t.join();
}

}  // namespace
}  // namespace epochfs
