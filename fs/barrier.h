// Barrier: when does no mutation run? Mutations enter and leave on the shared
// side; cutting an epoch waits until none is inside and keeps new ones out
// meanwhile. It cuts nothing itself: it runs the function that does.
//
// The shared side costs one atomic exchange on the thread's own cache line and
// one load of a line that is only written while a barrier is cut (Dekker's
// scheme with sequentially consistent order).
//
// Threads: enter and leave from any thread that holds a Seat; cut() from any,
// one at a time (others wait). A thread must not cut while it is inside.
// Lock order: cut_mutex_, then seats_mutex_ or statistics_mutex_.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "journal/result.h"

namespace epochfs {

struct BarrierStatistics {
  uint64_t cuts = 0;
  uint64_t called_off = 0;
  uint64_t last_pause_ns = 0;  // from closing the gate to opening it
  uint64_t max_pause_ns = 0;
  uint64_t p99_pause_ns = 0;  // of the last kPausesKept cuts and calls-off
};

class Barrier {
 public:
  // One thread's place at the gate. Made once a thread. A cache line of its own:
  // what one thread does inside costs no other thread a miss.
  class alignas(64) Seat {
    friend class Barrier;
    std::atomic<uint32_t> inside_{0};
  };
  Seat* take_seat();
  void give_back(Seat* seat);  // its thread must be outside

  void enter(Seat* seat);  // waits while a barrier is being cut
  void leave(Seat* seat);

  // Closes the gate, waits until nobody is inside, runs `cut`, opens the gate.
  // When that takes longer than the timeout to drain, the gate is opened again
  // and nothing was cut: an error of status kTimedOut. Time spent waiting for
  // another thread's cut does not count. `cut` must be short and must not throw.
  Result<void> cut(std::chrono::milliseconds timeout, const std::function<void()>& cut);

  BarrierStatistics statistics() const;

 private:
  using Clock = std::chrono::steady_clock;

  void wait_until_open();
  size_t count_inside() const;
  bool drain(Clock::time_point deadline);  // false: the deadline came first
  void note(Clock::duration pause, bool cut_done);

  std::atomic<uint32_t> closed_{0};   // futex word: 1 while the gate is closed
  std::atomic<uint32_t> leaving_{0};  // futex word: bumped by those who leave a closed gate
  std::mutex cut_mutex_;
  mutable std::mutex seats_mutex_;
  std::vector<std::unique_ptr<Seat>> seats_;  // none is freed before the barrier is
  std::vector<Seat*> free_seats_;
  mutable std::mutex statistics_mutex_;
  BarrierStatistics statistics_;
  static constexpr size_t kPausesKept = 1000;
  std::vector<uint64_t> pauses_;  // a ring
  size_t oldest_pause_ = 0;
};

}  // namespace epochfs
