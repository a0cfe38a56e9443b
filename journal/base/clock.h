// Clock: what time is it? The one place that asks the system for the time of day. Whatever decides
// by the time of day (a blackout window, the age of a recovery point) is handed a Clock, so that a
// test can set it.
//
// It is not for measuring how long something takes, nor for time-outs: std::chrono::steady_clock
// is, which nobody sets.
#pragma once

#include <chrono>
#include <cstdint>

namespace epochfs {

class Clock {
 public:
  virtual ~Clock() = default;

  // Nanoseconds since 1970. Goes back when an administrator sets the time back. Any thread.
  virtual uint64_t now_ns() const;
  // The same, as the standard library has it.
  std::chrono::system_clock::time_point now() const;

  // The system's.
  static const Clock& system();
};

// The system's time of day, ns since 1970, for a time that is only written down.
uint64_t now_ns();

}  // namespace epochfs
