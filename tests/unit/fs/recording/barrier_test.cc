#include "fs/recording/barrier.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>
#include <vector>

namespace epochfs::fs {
namespace {

using namespace std::chrono_literals;

// A thread's stay at the gate, as a worker has it.
struct Guest {
  explicit Guest(Barrier& b, const std::string& what = "")
      : barrier(b), seat(b.take_seat([what] { return what; })) {}
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
  EXPECT_EQ(result.error().message(),
            "cut epoch: 1 operation did not finish within 30 ms; nothing was cut");
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

TEST(Barrier, SaysWhomItWaitedFor) {
  Barrier barrier;
  Guest slow(barrier, "fallocate of inode 1234 by pid 567"), slower(barrier, "write of inode 9");
  barrier.enter(slow.seat);
  slow.seat->reach(Barrier::Seat::kActing);
  barrier.enter(slower.seat);
  const auto result = barrier.cut(60ms, [] {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(),
            "cut epoch: 2 operations did not finish within 60 ms: fallocate of inode 1234 by pid "
            "567, write of inode 9 (saving its pre-image); nothing was cut");
  auto seen = barrier.statistics().long_pauses;
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_TRUE(seen[0].called_off);
  EXPECT_GE(seen[0].drain_ns, 60'000'000u);

  // Of several that end late, but in time, the last one counts.
  slower.seat->reach(Barrier::Seat::kRecording);
  std::thread leaver([&] {
    std::this_thread::sleep_for(100ms);
    barrier.leave(slow.seat);
    std::this_thread::sleep_for(100ms);
    barrier.leave(slower.seat);
  });
  EXPECT_TRUE(barrier.cut(60s, [] {}));
  leaver.join();
  seen = barrier.statistics().long_pauses;
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_FALSE(seen[1].called_off);
  EXPECT_EQ(seen[1].waited_for, "write of inode 9 (recording it)");
  EXPECT_GT(seen[1].time_ns, seen[0].time_ns);
  EXPECT_GE(barrier.statistics().max_drain_ns, 150'000'000u);
}

TEST(Barrier, NamesAFewOfMany) {
  Barrier barrier;
  std::vector<std::unique_ptr<Guest>> guests;
  for (int i = 0; i < 5; ++i) {
    guests.push_back(std::make_unique<Guest>(barrier, "write of inode " + std::to_string(i)));
    barrier.enter(guests.back()->seat);
    guests.back()->seat->reach(Barrier::Seat::kActing);
  }
  EXPECT_EQ(barrier.cut(1ms, [] {}).error().message(),
            "cut epoch: 5 operations did not finish within 1 ms: write of inode 0, write of inode "
            "1, write of inode 2 and 2 more; nothing was cut");
  for (auto& guest : guests) barrier.leave(guest->seat);
}

TEST(Barrier, TellsTheCutFromTheWaitForIt) {
  Barrier barrier;
  ASSERT_TRUE(barrier.cut(1s, [] { std::this_thread::sleep_for(60ms); }));
  const auto statistics = barrier.statistics();
  ASSERT_EQ(statistics.long_pauses.size(), 1u);
  EXPECT_EQ(statistics.long_pauses[0].waited_for, "the cut itself");
  EXPECT_GE(statistics.max_cut_ns, 60'000'000u);
  EXPECT_LT(statistics.max_drain_ns, statistics.max_cut_ns);
  EXPECT_EQ(statistics.last_pause_ns, statistics.long_pauses[0].pause_ns());
}

TEST(Barrier, KeepsTheLongestAndTheNewestOfItsLongPauses) {
  Barrier barrier;
  auto cut_for = [&](std::chrono::milliseconds time) {
    ASSERT_TRUE(barrier.cut(1s, [&] { std::this_thread::sleep_for(time); }));
  };
  cut_for(50ms);
  cut_for(400ms);
  for (size_t i = 0; i < Barrier::kLongPausesKept + 2; ++i) cut_for(50ms);
  cut_for(0ms);
  const auto kept = barrier.statistics().long_pauses;
  ASSERT_EQ(kept.size(), Barrier::kLongPausesKept);
  EXPECT_GE(kept.front().pause_ns(), 400'000'000u);
  for (size_t i = 1; i < kept.size(); ++i) EXPECT_GT(kept[i].time_ns, kept[i - 1].time_ns);
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
}  // namespace epochfs::fs
