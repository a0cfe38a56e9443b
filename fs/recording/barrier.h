// Barrier: when does no mutation run? Mutations enter and leave on the shared side. Cutting an
// epoch waits until none is inside, and keeps new ones out meanwhile. The barrier cuts nothing
// itself: it runs the function that does.
//
// The shared side costs one atomic exchange on the thread's own cache line, and one load of a line
// that is written only while a barrier is cut (Dekker's scheme in sequentially consistent order).
//
// On a busy machine, a thread inside can wait for a core much longer than its mutation takes, and
// all others then wait with it. So the thread that cuts runs ahead of ordinary ones (SCHED_RR).
// After kHurryAfter it lends that priority to the threads it waits for, until the gate opens. This
// takes CAP_SYS_NICE; without it, or without real-time bandwidth, nobody is hurried.
//
// A long wait is explained by a function that comes with the seat; it is asked only when a cut
// waits for long. While the gate is closed, a thread inside still does what it did when the gate
// closed. Which thread entered first is not known: reading a clock for every mutation would cost
// more than the gate itself.
//
// Threads: enter() and leave() from any thread that holds a Seat; cut() from any, one at a time
// (others wait). A thread must not cut while it is inside.
// Lock order: cut_mutex_, then seats_mutex_ or statistics_mutex_.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "journal/base/mutex.h"
#include "journal/base/result.h"

namespace epochfs::fs {

// A pause that applications notice, and the reason for it.
struct LongPause {
  uint64_t time_ns = 0;   // time of day at its end
  uint64_t drain_ns = 0;  // until nobody was inside
  uint64_t cut_ns = 0;    // in the cut itself
  bool called_off = false;
  std::string waited_for;  // "write of inode 12 by pid 34"

  uint64_t pause_ns() const { return drain_ns + cut_ns; }
};

struct BarrierStatistics {
  uint64_t cuts = 0;
  uint64_t called_off = 0;
  uint64_t last_pause_ns = 0;  // from closing the gate to opening it
  uint64_t max_pause_ns = 0;
  uint64_t p99_pause_ns = 0;  // of the last kPausesKept cuts, including those called off
  uint64_t max_drain_ns = 0;
  uint64_t max_cut_ns = 0;
  std::vector<LongPause> long_pauses;  // the newest ones and the longest one, oldest first
};

class Barrier {
 public:
  // One thread's place at the gate, made once for each thread. It has a cache line of its own, so
  // that what one thread does inside costs no other thread a miss.
  class alignas(64) Seat {
   public:
    // How far its thread has come inside.
    enum Stage : uint32_t { kOutside, kPreparing, kActing, kRecording };
    void reach(Stage stage) { inside_.store(stage, std::memory_order_relaxed); }

   private:
    friend class Barrier;
    std::atomic<uint32_t> inside_{kOutside};
    // With the barrier's seats_mutex_ held:
    pid_t thread_ = 0;  // as the kernel numbers it
    bool hurried_ = false;
    std::function<std::string()> what_;
  };
  // A seat for the calling thread. what() says what that thread does while it is inside ("write of
  // inode 12 by pid 34"), or nothing; threads that cut call it. The barrier owns the seat.
  Seat* take_seat(std::function<std::string()> what = {});
  void give_back(Seat* seat);  // its thread must be outside

  void enter(Seat* seat);  // waits while a barrier is being cut
  void leave(Seat* seat);

  // Closes the gate, waits until no mutation is inside, runs `cut`, and opens the gate. If draining
  // takes longer than the timeout, the gate opens again and nothing was cut: an error of status
  // kTimedOut that names what was inside. Waiting for another thread's cut does not count. `cut`
  // must be short and must not throw.
  Result<void> cut(std::chrono::milliseconds timeout, const std::function<void()>& cut);

  BarrierStatistics statistics() const;

  // Longer pauses are explained.
  static constexpr std::chrono::milliseconds kLongPause{50};
  static constexpr std::chrono::microseconds kHurryAfter{500};
  static constexpr size_t kLongPausesKept = 8;

 private:
  // Which threads are inside at a moment.
  struct Inside {
    size_t count = 0;
    std::string what;  // what some of them do; empty: none tells
  };
  struct Drained {
    bool done = false;  // false: the timeout came first
    bool hurried = false;
    Inside last;  // the last look after kLongPause that found a thread inside
  };

  void wait_until_open();
  size_t count_inside() const;
  Inside look_inside() const;
  void hurry_those_inside();
  void calm_again();
  Drained drain(std::chrono::steady_clock::time_point closed_at, std::chrono::milliseconds timeout);
  void note(const LongPause& pause);

  std::atomic<uint32_t> closed_{0};   // futex word: 1 while the gate is closed
  std::atomic<uint32_t> leaving_{0};  // futex word: bumped by threads that leave a closed gate
  Mutex cut_mutex_;
  mutable Mutex seats_mutex_;
  // None is freed before the barrier is.
  std::vector<std::unique_ptr<Seat>> seats_ EPOCHFS_GUARDED_BY(seats_mutex_);
  std::vector<Seat*> free_seats_ EPOCHFS_GUARDED_BY(seats_mutex_);
  mutable Mutex statistics_mutex_;
  BarrierStatistics statistics_ EPOCHFS_GUARDED_BY(statistics_mutex_);
  static constexpr size_t kPausesKept = 1000;
  std::vector<uint64_t> pauses_ EPOCHFS_GUARDED_BY(statistics_mutex_);  // a ring
  size_t oldest_pause_ EPOCHFS_GUARDED_BY(statistics_mutex_) = 0;
};

}  // namespace epochfs::fs
