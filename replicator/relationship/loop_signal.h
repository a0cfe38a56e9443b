// LoopSignal: how does one thread wake the event loop of another? An eventfd: any
// thread signals, the loop's own thread waits for it as a promise.
#pragma once

#include <kj/async-unix.h>

#include "journal/base/unix.h"

namespace epochfs::replicator {

class LoopSignal {
 public:
  LoopSignal();

  void signal();  // any thread; signals that come before a wait are not lost

  // The loop's thread: watches through its port until detached. The promise
  // resolves once for all signals since the last one.
  void attach(kj::UnixEventPort& port);
  void detach();
  kj::Promise<void> wait();

 private:
  UniqueFd fd_;
  kj::Own<kj::UnixEventPort::FdObserver> observer_;
};

}  // namespace epochfs::replicator
