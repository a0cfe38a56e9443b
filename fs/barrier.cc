#include "fs/barrier.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace epochfs {
namespace {

using std::chrono::nanoseconds;

// A mutation takes microseconds: looking again comes before sleeping.
constexpr int kLooksBeforeSleep = 50;

// Sleeps while the word holds `seen`, at most for `limit`; null: for ever. May
// return early.
void futex_wait(const std::atomic<uint32_t>& word, uint32_t seen, const nanoseconds* limit) {
  timespec t{};
  if (limit) {
    t.tv_sec = limit->count() / 1'000'000'000;
    t.tv_nsec = limit->count() % 1'000'000'000;
  }
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, limit ? &t : nullptr, nullptr, 0);
}

void futex_wake_all(const std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

}  // namespace

Barrier::Seat* Barrier::take_seat() {
  std::lock_guard lock(seats_mutex_);
  if (!free_seats_.empty()) {
    Seat* seat = free_seats_.back();
    free_seats_.pop_back();
    return seat;
  }
  return seats_.emplace_back(std::make_unique<Seat>()).get();
}

void Barrier::give_back(Seat* seat) {
  EPOCHFS_CHECK(seat->inside_.load() == 0);
  std::lock_guard lock(seats_mutex_);
  free_seats_.push_back(seat);
}

// Dekker: a thread says "inside" and then looks at the gate; cut() closes the gate
// and then looks who is inside. Both in sequentially consistent order, so at least
// one of them sees the other.
void Barrier::enter(Seat* seat) {
  for (;;) {
    EPOCHFS_CHECK(seat->inside_.exchange(1) == 0);
    if (closed_.load() == 0) return;
    leave(seat);
    wait_until_open();
  }
}

// The same once more: leaving and then looking at the gate, or the last one out
// could miss that somebody waits for it.
void Barrier::leave(Seat* seat) {
  EPOCHFS_CHECK(seat->inside_.exchange(0) == 1);
  if (closed_.load() == 0) return;
  leaving_.fetch_add(1);
  futex_wake_all(leaving_);
}

void Barrier::wait_until_open() {
  while (closed_.load() != 0) futex_wait(closed_, 1, nullptr);
}

size_t Barrier::count_inside() const {
  std::lock_guard lock(seats_mutex_);
  return size_t(std::count_if(seats_.begin(), seats_.end(),
                              [](const auto& seat) { return seat->inside_.load() != 0; }));
}

bool Barrier::drain(Clock::time_point deadline) {
  for (int looks = 0;; ++looks) {
    // Read before looking: who leaves after the look changes it.
    const uint32_t seen = leaving_.load();
    if (count_inside() == 0) return true;
    const auto left = std::chrono::duration_cast<nanoseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    if (looks < kLooksBeforeSleep) {
      std::this_thread::yield();
    } else {
      futex_wait(leaving_, seen, &left);
    }
  }
}

Result<void> Barrier::cut(std::chrono::milliseconds timeout, const std::function<void()>& cut) {
  std::lock_guard lock(cut_mutex_);
  const auto closed_at = Clock::now();
  closed_.store(1);
  const bool drained = drain(closed_at + timeout);
  const size_t inside = drained ? 0 : count_inside();
  if (drained) cut();
  closed_.store(0);
  futex_wake_all(closed_);
  note(Clock::now() - closed_at, drained);
  if (drained) return {};
  return fail(fmt::format("cut epoch: {} operations did not finish within {} ms; nothing was cut",
                          inside, timeout.count()),
              0, ExitStatus::kTimedOut);
}

void Barrier::note(Clock::duration pause, bool cut_done) {
  const auto ns = uint64_t(std::chrono::duration_cast<nanoseconds>(pause).count());
  std::lock_guard lock(statistics_mutex_);
  ++(cut_done ? statistics_.cuts : statistics_.called_off);
  statistics_.last_pause_ns = ns;
  statistics_.max_pause_ns = std::max(statistics_.max_pause_ns, ns);
  if (pauses_.size() < kPausesKept) {
    pauses_.push_back(ns);
  } else {
    pauses_[oldest_pause_++ % kPausesKept] = ns;
  }
}

BarrierStatistics Barrier::statistics() const {
  std::lock_guard lock(statistics_mutex_);
  BarrierStatistics now = statistics_;
  if (!pauses_.empty()) {
    std::vector<uint64_t> sorted = pauses_;
    const auto at = sorted.begin() + ptrdiff_t((sorted.size() - 1) * 99 / 100);
    std::nth_element(sorted.begin(), at, sorted.end());
    now.p99_pause_ns = *at;
  }
  return now;
}

}  // namespace epochfs
