#include "fs/process/signal_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

namespace epochfs::fs {
namespace {

UniqueFd make_signal_fd() {
  const sigset_t set = SignalWatch::signals();
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
}

}  // namespace

sigset_t SignalWatch::signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

SignalWatch::SignalWatch(std::function<void()> leave)
    : signals_(make_signal_fd()), stop_(::eventfd(0, EFD_CLOEXEC)), leave_(std::move(leave)) {
  EPOCHFS_CHECK(signals_ && stop_);
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void SignalWatch::watch() {
  for (;;) {
    pollfd fds[] = {{signals_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents) return;
    signalfd_siginfo info;
    if (::read(signals_.get(), &info, sizeof info) == sizeof info) leave_();
  }
}

}  // namespace epochfs::fs
