// SignalWatch: what happens when somebody asks the process to end? Calls a function, in a thread
// of its own, each time that a signal comes.
#pragma once

#include <functional>
#include <thread>

#include "journal/base/signals.h"

namespace epochfs::fs {

class SignalWatch {
 public:
  // signals: held in every thread. They must outlive it.
  SignalWatch(HeldSignals& signals, std::function<void()> leave);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void watch();

  HeldSignals& signals_;
  UniqueFd stop_;
  std::function<void()> leave_;
  std::thread thread_;
};

}  // namespace epochfs::fs
