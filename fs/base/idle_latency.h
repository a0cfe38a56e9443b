// IdleLatency: how does a request find its worker at once? Keeps idle cores from halting while
// requests come thick and fast.
//
// Most of the time of a small request is neither work nor copying. It goes into waking two idle
// cores: the worker's when the request comes, and the application's when the answer does. A bound
// on the latency of idle states, held in the kernel's PM QoS file /dev/cpu_dma_latency, keeps
// cores awake. It is released within milliseconds of calm. The kernel drops it with the
// descriptor, so a process that is killed leaves nothing behind.
//
// A thread that spins with SCHED_IDLE would do the same without a privilege. But it would take
// its control group's share of the core from the other groups there. Cores that poll in the
// kernel's idle loop take nothing from anybody.
//
// Threads: arrived() from any, for every request; it costs one relaxed load and one increment of
// a counter that few threads share. One thread of its own keeps the time; at rest it sleeps
// without a timer.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "journal/base/mutex.h"
#include "journal/base/unix.h"

namespace epochfs::fs {

enum class WakeupMode { kAdaptive, kAlways, kNever };

class IdleLatency {
 public:
  struct Rates {
    // Requests within one interval: holding begins at `begin`, and ends below `end`.
    uint32_t begin = 20, end = 10;
    std::chrono::milliseconds interval{4};
  };

  // `device`: the PM QoS file; only tests name another than kDevice.
  static constexpr const char* kDevice = "/dev/cpu_dma_latency";
  explicit IdleLatency(WakeupMode mode, const std::string& device = kDevice);
  IdleLatency(WakeupMode mode, const std::string& device, const Rates& rates);
  ~IdleLatency();
  IdleLatency(const IdleLatency&) = delete;
  IdleLatency& operator=(const IdleLatency&) = delete;

  void arrived();

  // Why cores cannot be kept awake; empty: they can.
  const std::string& unavailable() const { return unavailable_; }
  bool holding() const { return holding_; }
  std::chrono::nanoseconds held() const;  // the total so far

 private:
  void count_at_rest();
  uint64_t arrivals() const;
  void keep_time() EPOCHFS_EXCLUDES(mutex_);
  void hold(bool really);

  const Rates rates_;
  UniqueFd device_;
  std::string unavailable_;
  int32_t bound_us_ = 0;

  // At rest, the arrivals of the current interval are counted in window_; while holding, all of
  // them in arrivals_.
  std::atomic<bool> holding_{false};
  std::atomic<bool> wanted_{false};  // the thread has been told to begin
  static constexpr size_t kCounters = 16;
  struct alignas(64) Counter {
    std::atomic<uint64_t> count{0};
  };
  std::array<Counter, kCounters> arrivals_;
  std::atomic<uint64_t> window_{0};  // number of the interval << 32 | arrivals in it
  std::atomic<int64_t> held_ns_{0}, held_since_ns_{0};

  Mutex mutex_;
  Condition changed_;
  bool stop_ EPOCHFS_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace epochfs::fs
