#include "fs/process/signal_watch.h"

#include <poll.h>
#include <sys/eventfd.h>

namespace epochfs::fs {

SignalWatch::SignalWatch(HeldSignals& signals, std::function<void()> leave)
    : signals_(signals), stop_(::eventfd(0, EFD_CLOEXEC)), leave_(std::move(leave)) {
  EPOCHFS_CHECK(stop_);
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void SignalWatch::watch() {
  for (;;) {
    pollfd fds[] = {{signals_.fd(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents) return;
    if (fds[0].revents == 0) continue;
    (void)signals_.caught();
    leave_();
  }
}

}  // namespace epochfs::fs
