#include "replicator/relationship/loop_signal.h"

#include <sys/eventfd.h>

namespace epochfs::replicator {

LoopSignal::LoopSignal() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { EPOCHFS_CHECK(fd_); }

void LoopSignal::signal() {
  uint64_t one = 1;
  // EAGAIN: the counter is full, so the waiter has a signal pending in any case.
  [[maybe_unused]] ssize_t n = ::write(fd_.get(), &one, sizeof one);
}

void LoopSignal::attach(kj::UnixEventPort& port) {
  observer_ = kj::heap<kj::UnixEventPort::FdObserver>(port, fd_.get(),
                                                      kj::UnixEventPort::FdObserver::OBSERVE_READ);
}

void LoopSignal::detach() { observer_ = nullptr; }

kj::Promise<void> LoopSignal::wait() {
  uint64_t count;
  if (::read(fd_.get(), &count, sizeof count) == sizeof count) return kj::READY_NOW;
  return observer_->whenBecomesReadable().then([this] { return wait(); });
}

}  // namespace epochfs::replicator
