#include "fs/base/idle_latency.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>

#include <cstring>
#include <fstream>

namespace epochfs::fs {
namespace {

constexpr int32_t kNoBound = 2'000'000'000;  // the kernel's default
// Waking from a deeper state costs more than the request. The first idle state of most
// processors is within this bound. Under a hypervisor even that state leaves the guest, so cores
// must not halt there at all.
constexpr int32_t kBoundUs = 2;

bool halting_leaves_the_guest() {
  std::ifstream in("/sys/devices/system/cpu/cpuidle/current_driver");
  std::string driver;
  in >> driver;
  return driver == "haltpoll";
}

// Precise to a tick, at a fifth of the price of the precise clock.
int64_t coarse_ns() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

IdleLatency::IdleLatency(WakeupMode mode, const std::string& device)
    : IdleLatency(mode, device, Rates{}) {}

IdleLatency::IdleLatency(WakeupMode mode, const std::string& device, const Rates& rates)
    : rates_(rates) {
  if (mode == WakeupMode::kNever) {
    unavailable_ = "not wanted (-o wakeup=never)";
    return;
  }
  device_.reset(::open(device.c_str(), O_WRONLY | O_CLOEXEC));
  if (!device_) {
    unavailable_ = fmt::format("{}: {}", device, std::strerror(errno));
    return;
  }
  bound_us_ = halting_leaves_the_guest() ? 0 : kBoundUs;
  hold(mode == WakeupMode::kAlways);
  if (mode == WakeupMode::kAdaptive) thread_ = std::thread([this] { keep_time(); });
}

IdleLatency::~IdleLatency() {
  if (!thread_.joinable()) return;
  {
    Lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void IdleLatency::arrived() {
  static std::atomic<uint32_t> threads{0};
  thread_local const uint32_t mine = threads.fetch_add(1) % kCounters;
  if (holding_.load(std::memory_order_relaxed)) {
    arrivals_[mine].count.fetch_add(1, std::memory_order_relaxed);
  } else if (thread_.joinable()) {
    count_at_rest();
  }
}

void IdleLatency::count_at_rest() {
  const auto interval = uint64_t(coarse_ns() / std::chrono::nanoseconds(rates_.interval).count());
  const uint64_t now = interval << 32;
  uint64_t seen = window_.load(std::memory_order_relaxed);
  // Losing a count to another thread does no harm.
  const uint64_t count = (seen & ~uint64_t{UINT32_MAX}) == now ? seen + 1 : now + 1;
  window_.compare_exchange_strong(seen, count, std::memory_order_relaxed);
  if (uint32_t(count) < rates_.begin || wanted_.exchange(true)) return;
  Lock lock(mutex_);
  changed_.notify_one();
}

uint64_t IdleLatency::arrivals() const {
  uint64_t sum = 0;
  for (const Counter& counter : arrivals_) sum += counter.count.load(std::memory_order_relaxed);
  return sum;
}

void IdleLatency::keep_time() {
  Lock lock(mutex_);
  while (!stop_) {
    while (!stop_ && !wanted_) changed_.wait(lock);
    if (stop_) return;
    hold(true);
    uint64_t before;
    do {
      before = arrivals();
      const auto end = std::chrono::steady_clock::now() + rates_.interval;
      while (!stop_ && changed_.wait_until(lock, end)) {
      }
    } while (!stop_ && arrivals() - before >= rates_.end);
    hold(false);
    wanted_ = false;
  }
}

void IdleLatency::hold(bool really) {
  const int32_t bound = really ? bound_us_ : kNoBound;
  // If this fails, only speed is lost.
  if (::pwrite(device_.get(), &bound, sizeof bound, 0) != sizeof bound) return;
  const int64_t now = coarse_ns();
  if (really) held_since_ns_ = now;
  if (!really && holding_) held_ns_ += now - held_since_ns_;
  holding_ = really;
}

std::chrono::nanoseconds IdleLatency::held() const {
  const int64_t running = holding_ ? coarse_ns() - held_since_ns_ : 0;
  return std::chrono::nanoseconds(held_ns_ + running);
}

}  // namespace epochfs::fs
