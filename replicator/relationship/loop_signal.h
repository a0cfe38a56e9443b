// LoopSignal: how does one thread wake the event loop of another? Through an eventfd: any thread
// signals, and the loop's own thread waits for it as a promise.
#pragma once

#include <kj/async-unix.h>

#include "journal/base/unix.h"

namespace epochfs::replicator {

class LoopSignal {
 public:
  LoopSignal();

  void signal();  // any thread; a signal that comes before a wait is not lost

  // The loop's thread, from attach() to detach(). The promise resolves once for all signals since
  // the last wait. One wait at a time: a second one breaks the first.
  void attach(kj::UnixEventPort& port);
  void detach();
  kj::Promise<void> wait();
  // How many signals came since the last wait or take. Does not block; any thread.
  uint64_t take();

 private:
  UniqueFd fd_;
  kj::Own<kj::UnixEventPort::FdObserver> observer_;
};

}  // namespace epochfs::replicator
