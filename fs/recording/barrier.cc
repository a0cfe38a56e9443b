#include "fs/recording/barrier.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "journal/base/clock.h"

namespace epochfs::fs {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// A mutation takes microseconds, so look again before sleeping.
constexpr int kLooksBeforeSleep = 50;
// How many of the operations that a cut waits for are named.
constexpr size_t kNamed = 3;

// Sleeps while the word holds `seen`, for `limit` at most; null: without a limit. May return
// early.
void futex_wait(const std::atomic<uint32_t>& word, uint32_t seen, const nanoseconds* limit) {
  timespec t{};
  if (limit) {
    t.tv_sec = limit->count() / 1'000'000'000;
    t.tv_nsec = limit->count() % 1'000'000'000;
  }
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, limit ? &t : nullptr, nullptr, 0);
}

uint64_t as_ns(steady_clock::duration d) {
  return uint64_t(std::chrono::duration_cast<nanoseconds>(d).count());
}

std::string operations(size_t count) {
  return count == 1 ? "1 operation" : fmt::format("{} operations", count);
}

// Lets an ordinary thread run ahead of all others of its kind. False: not allowed, or the thread is
// not an ordinary one.
bool hurry(pid_t thread) {
  const sched_param first{.sched_priority = ::sched_get_priority_min(SCHED_RR)};
  return ::sched_getscheduler(thread) == SCHED_OTHER &&
         ::sched_setscheduler(thread, SCHED_RR | SCHED_RESET_ON_FORK, &first) == 0;
}

// Makes it an ordinary thread again. Its nice value has stayed.
void calm(pid_t thread) {
  const sched_param none{};
  ::sched_setscheduler(thread, SCHED_OTHER, &none);
}

class Hurried {
 public:
  Hurried() : really_(hurry(0)) {}
  ~Hurried() {
    if (really_) calm(0);
  }
  Hurried(const Hurried&) = delete;
  Hurried& operator=(const Hurried&) = delete;

 private:
  const bool really_;
};

const char* stage_name(uint32_t stage) {
  switch (stage) {
    case Barrier::Seat::kPreparing: return " (saving its pre-image)";
    case Barrier::Seat::kRecording: return " (recording it)";
    default: return "";
  }
}

void futex_wake_all(const std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

}  // namespace

Barrier::Seat* Barrier::take_seat(std::function<std::string()> what) {
  Lock lock(seats_mutex_);
  if (free_seats_.empty()) {
    free_seats_.push_back(seats_.emplace_back(std::make_unique<Seat>()).get());
  }
  Seat* seat = free_seats_.back();
  free_seats_.pop_back();
  seat->thread_ = ::gettid();
  seat->what_ = std::move(what);
  return seat;
}

void Barrier::give_back(Seat* seat) {
  EPOCHFS_CHECK(seat->inside_.load() == Seat::kOutside);
  Lock lock(seats_mutex_);
  seat->what_ = {};
  free_seats_.push_back(seat);
}

// Dekker: a thread says "inside" and then looks at the gate; cut() closes the gate and then looks
// for threads inside. Both are in sequentially consistent order, so at least one sees the other.
void Barrier::enter(Seat* seat) {
  for (;;) {
    EPOCHFS_CHECK(seat->inside_.exchange(Seat::kPreparing) == Seat::kOutside);
    if (closed_.load() == 0) return;
    leave(seat);
    wait_until_open();
  }
}

// The same again: it leaves and then looks at the gate. Otherwise the last thread out could miss
// that a cut waits for it.
void Barrier::leave(Seat* seat) {
  EPOCHFS_CHECK(seat->inside_.exchange(Seat::kOutside) != Seat::kOutside);
  if (closed_.load() == 0) return;
  leaving_.fetch_add(1);
  futex_wake_all(leaving_);
}

void Barrier::wait_until_open() {
  while (closed_.load() != 0) futex_wait(closed_, 1, nullptr);
}

size_t Barrier::count_inside() const {
  Lock lock(seats_mutex_);
  return size_t(std::count_if(seats_.begin(), seats_.end(), [](const auto& seat) {
    return seat->inside_.load() != Seat::kOutside;
  }));
}

Barrier::Inside Barrier::look_inside() const {
  Inside found;
  size_t named = 0;
  Lock lock(seats_mutex_);
  for (const auto& seat : seats_) {
    const uint32_t stage = seat->inside_.load();
    if (stage == Seat::kOutside) continue;
    ++found.count;
    // A thread that looks in, finds the gate closed and leaves again says nothing either.
    if (named == kNamed || !seat->what_) continue;
    const std::string what = seat->what_();
    if (what.empty()) continue;
    found.what += (named++ ? ", " : "") + what + stage_name(stage);
  }
  if (named && found.count > named) found.what += fmt::format(" and {} more", found.count - named);
  return found;
}

void Barrier::hurry_those_inside() {
  Lock lock(seats_mutex_);
  for (const auto& seat : seats_) {
    if (seat->inside_.load() != Seat::kOutside && !seat->hurried_) {
      seat->hurried_ = hurry(seat->thread_);
    }
  }
}

void Barrier::calm_again() {
  Lock lock(seats_mutex_);
  for (const auto& seat : seats_) {
    if (std::exchange(seat->hurried_, false)) calm(seat->thread_);
  }
}

Barrier::Drained Barrier::drain(steady_clock::time_point closed_at,
                                std::chrono::milliseconds timeout) {
  Drained drained;
#ifdef EPOCHFS_WITHOUT_BARRIER  // with this, tests prove that they notice a missing barrier
  closed_.store(0);
  while (count_inside() < 2 && steady_clock::now() - closed_at < std::chrono::milliseconds(20)) {
  }
  drained.done = true;
  return drained;
#endif
  for (int looks = 0;; ++looks) {
    // Read before looking: a thread that leaves after the look changes it.
    const uint32_t seen = leaving_.load();
    if (count_inside() == 0) {
      drained.done = true;
      return drained;
    }
    const nanoseconds waited = steady_clock::now() - closed_at;
    const bool too_long = waited >= timeout;
    if (waited >= kLongPause || too_long) {
      Inside now = look_inside();
      if (now.count == 0) continue;  // the last one has just left
      drained.last = std::move(now);
    }
    if (too_long) return drained;
    if (!drained.hurried && waited >= kHurryAfter) {
      drained.hurried = true;
      hurry_those_inside();
      continue;
    }
    if (looks < kLooksBeforeSleep) {
      std::this_thread::yield();
    } else {
      nanoseconds until = timeout;
      if (waited < kLongPause) until = std::min<nanoseconds>(until, kLongPause);
      if (!drained.hurried) until = std::min<nanoseconds>(until, kHurryAfter);
      until -= waited;
      futex_wait(leaving_, seen, &until);
    }
  }
}

Result<void> Barrier::cut(std::chrono::milliseconds timeout, const std::function<void()>& cut) {
  Lock lock(cut_mutex_);
  const Hurried hurried;
  const auto closed_at = steady_clock::now();
  closed_.store(1);
  const Drained drained = drain(closed_at, timeout);
  const auto drained_at = steady_clock::now();
  if (drained.done) cut();
  closed_.store(0);
  futex_wake_all(closed_);
  const auto opened_at = steady_clock::now();
  if (drained.hurried) calm_again();

  LongPause pause{.time_ns = now_ns(),
                  .drain_ns = as_ns(drained_at - closed_at),
                  .cut_ns = as_ns(opened_at - drained_at),
                  .called_off = !drained.done,
                  .waited_for = drained.last.what};
  if (pause.cut_ns > pause.drain_ns) {
    pause.waited_for = "the cut itself";
  } else if (drained.last.count == 0) {
    pause.waited_for = "a core: nobody was inside";
  } else if (pause.waited_for.empty()) {
    pause.waited_for = "an operation that had just begun";
  }
  note(pause);
  if (drained.done) return {};
  const std::string& what = drained.last.what;
  return fail(
      fmt::format("cut epoch: {} did not finish within {} ms{}{}; nothing was cut",
                  operations(drained.last.count), timeout.count(), what.empty() ? "" : ": ", what),
      0, ExitStatus::kTimedOut);
}

void Barrier::note(const LongPause& pause) {
  const uint64_t ns = pause.pause_ns();
  Lock lock(statistics_mutex_);
  ++(pause.called_off ? statistics_.called_off : statistics_.cuts);
  statistics_.last_pause_ns = ns;
  statistics_.max_pause_ns = std::max(statistics_.max_pause_ns, ns);
  statistics_.max_drain_ns = std::max(statistics_.max_drain_ns, pause.drain_ns);
  statistics_.max_cut_ns = std::max(statistics_.max_cut_ns, pause.cut_ns);
  if (pauses_.size() < kPausesKept) {
    pauses_.push_back(ns);
  } else {
    pauses_[oldest_pause_++ % kPausesKept] = ns;
  }
  if (nanoseconds(ns) < kLongPause) return;
  auto& kept = statistics_.long_pauses;
  kept.push_back(pause);
  if (kept.size() <= kLongPausesKept) return;
  auto shorter = [](const LongPause& a, const LongPause& b) { return a.pause_ns() < b.pause_ns(); };
  // The oldest goes, unless it is the longest.
  auto longest = std::max_element(kept.begin(), kept.end(), shorter);
  kept.erase(longest == kept.begin() ? kept.begin() + 1 : kept.begin());
}

BarrierStatistics Barrier::statistics() const {
  Lock lock(statistics_mutex_);
  BarrierStatistics now = statistics_;
  if (!pauses_.empty()) {
    std::vector<uint64_t> sorted = pauses_;
    const auto at = sorted.begin() + ptrdiff_t((sorted.size() * 99 + 99) / 100 - 1);
    std::nth_element(sorted.begin(), at, sorted.end());
    now.p99_pause_ns = *at;
  }
  return now;
}

}  // namespace epochfs::fs
