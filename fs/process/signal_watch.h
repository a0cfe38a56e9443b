// SignalWatch: what happens when somebody asks the process to end? Calls a function, in a thread
// of its own, each time that SIGTERM, SIGINT or SIGHUP comes.
#pragma once

#include <signal.h>

#include <functional>
#include <thread>

#include "journal/base/unix.h"

namespace epochfs::fs {

class SignalWatch {
 public:
  // These must be blocked in every thread.
  static sigset_t signals();

  explicit SignalWatch(std::function<void()> leave);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void watch();

  UniqueFd signals_, stop_;
  std::function<void()> leave_;
  std::thread thread_;
};

}  // namespace epochfs::fs
