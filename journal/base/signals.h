// HeldSignals: how does a program that is asked to end first finish what it has begun? Keeps
// signals from taking effect for as long as it lives, and tells which one came.
//
// Threads: signals stay blocked in the thread that makes it, and in those that thread starts
// afterwards. It may be used by one thread at a time.
#pragma once

#include <signal.h>

#include <initializer_list>

#include "journal/base/unix.h"

namespace epochfs {

sigset_t signal_set(std::initializer_list<int> numbers);
// SIGINT, SIGTERM and SIGHUP.
sigset_t signals_to_end();
// Without those that the process ignores: blocked, an ignored signal would come all the same.
sigset_t without_ignored(const sigset_t& signals);

class HeldSignals {
 public:
  // What becomes, in the end, of a signal that came and that nobody asked about.
  enum class Unasked { kTakesEffect, kIsDropped };

  explicit HeldSignals(const sigset_t& signals = without_ignored(signals_to_end()),
                       Unasked unasked = Unasked::kTakesEffect);
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  // Readable: a signal has come that caught() does not know yet.
  int fd() const { return fd_.get(); }
  // The first that came; 0: none yet. Those that came up to now will not take effect.
  int caught();
  const sigset_t& mask_before() const { return before_; }

 private:
  const Unasked unasked_;
  sigset_t before_;
  UniqueFd fd_;
  int caught_ = 0;
};

}  // namespace epochfs
