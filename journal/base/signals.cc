#include "journal/base/signals.h"

#include <sys/signalfd.h>

namespace epochfs {

sigset_t signal_set(std::initializer_list<int> numbers) {
  sigset_t set;
  ::sigemptyset(&set);
  for (int number : numbers) ::sigaddset(&set, number);
  return set;
}

sigset_t signals_to_end() { return signal_set({SIGINT, SIGTERM, SIGHUP}); }

sigset_t without_ignored(const sigset_t& signals) {
  sigset_t set = signals;
  for (int number = 1; number < SIGRTMIN; ++number) {
    struct sigaction action;
    if (::sigismember(&set, number) != 1) continue;
    if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) {
      ::sigdelset(&set, number);
    }
  }
  return set;
}

HeldSignals::HeldSignals(const sigset_t& signals, Unasked unasked) : unasked_(unasked) {
  EPOCHFS_CHECK(::pthread_sigmask(SIG_BLOCK, &signals, &before_) == 0);
  fd_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  EPOCHFS_CHECK(fd_);
}

HeldSignals::~HeldSignals() {
  if (unasked_ == Unasked::kIsDropped) caught();
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

int HeldSignals::caught() {
  signalfd_siginfo info;
  while (::read(fd_.get(), &info, sizeof info) == sizeof info) {
    if (caught_ == 0) caught_ = int(info.ssi_signo);
  }
  return caught_;
}

}  // namespace epochfs
