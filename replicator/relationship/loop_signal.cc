#include "replicator/relationship/loop_signal.h"

#include <sys/eventfd.h>

namespace epochfs::replicator {

LoopSignal::LoopSignal() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { EPOCHFS_CHECK(fd_); }

void LoopSignal::signal() {
  uint64_t one = 1;
  // EAGAIN: the counter is full, so a signal is pending for the waiter anyway.
  [[maybe_unused]] ssize_t n = ::write(fd_.get(), &one, sizeof one);
}

void LoopSignal::attach(kj::UnixEventPort& port) {
  observer_ = kj::heap<kj::UnixEventPort::FdObserver>(port, fd_.get(),
                                                      kj::UnixEventPort::FdObserver::OBSERVE_READ);
}

void LoopSignal::detach() { observer_ = nullptr; }

uint64_t LoopSignal::take() {
  uint64_t count;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

kj::Promise<void> LoopSignal::wait() {
  if (take() > 0) return kj::READY_NOW;
  return observer_->whenBecomesReadable().then([this] { return wait(); });
}

}  // namespace epochfs::replicator
