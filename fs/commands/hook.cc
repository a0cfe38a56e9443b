#include "fs/commands/hook.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace epochfs::fs {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLookEvery = 10ms;  // at a process group that was told to end

std::vector<std::string> environment_with(const std::map<std::string, std::string>& more) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (!more.count(text.substr(0, text.find('=')))) out.push_back(text);
  }
  for (const auto& [name, text] : more) out.push_back(name + "=" + text);
  return out;
}

// Starts a process group whose first process is the shell.
Result<pid_t> start(const Hook& hook, const sigset_t& mask) {
  std::string command = hook.command;
  std::string words[] = {"sh", "-c"};
  char* argv[] = {words[0].data(), words[1].data(), command.data(), nullptr};
  auto environment = environment_with(hook.environment);
  std::vector<char*> entries;
  for (std::string& entry : environment) entries.push_back(entry.data());
  entries.push_back(nullptr);

  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&files, 2, 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setsigmask(&attributes, &mask);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, "/bin/sh", &files, &attributes, argv, entries.data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) return fail(fmt::format("run {}: start /bin/sh", hook.name), error);
  return pid;
}

// Waits for the process without taking its status. False: the deadline came first; or, if
// `end_early`, a signal.
bool wait_for_end(pid_t pid, steady_clock::time_point deadline, HeldSignals& signals,
                  bool end_early) {
  UniqueFd process(int(::syscall(SYS_pidfd_open, pid, 0)));
  EPOCHFS_CHECK(process);
  for (;;) {
    if (end_early && signals.caught() != 0) return false;
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    pollfd fds[] = {{process.get(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    ::poll(fds, end_early ? 2 : 1, int(std::max<int64_t>(left.count(), 0)));
    if (fds[0].revents != 0) return true;
    if (left.count() <= 0) return false;
  }
}

// Takes the statuses of the group's processes that have ended. False: none is left that is a child
// of this process. As it is a subreaper, a process whose parent has ended is its child, too. While
// one is left, no other group gets the group's number.
bool group_lives(pid_t group) {
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_PGID, id_t(group), &info, WEXITED | WNOHANG) != 0) return errno != ECHILD;
    if (info.si_pid == 0) return true;
  }
}

void end_group(pid_t group, milliseconds grace) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (int number : {SIGTERM, SIGKILL}) {
    if (!group_lives(group)) return;
    ::kill(-group, number);
    ::kill(-group, SIGCONT);  // a stopped process would not notice
    const auto deadline = steady_clock::now() + grace;
    while (group_lives(group) && steady_clock::now() < deadline)
      std::this_thread::sleep_for(kLookEvery);
  }
}

Result<void> take_status(const Hook& hook, pid_t pid) {
  siginfo_t info{};
  while (::waitid(P_PID, id_t(pid), &info, WEXITED) != 0) EPOCHFS_CHECK(errno == EINTR);
  if (info.si_code == CLD_EXITED && info.si_status == 0) return {};
  if (info.si_code == CLD_EXITED) {
    return fail(fmt::format("{}: the command ended with status {}", hook.name, info.si_status));
  }
  return fail(
      fmt::format("{}: the command was ended by SIG{}", hook.name, ::sigabbrev_np(info.si_status)));
}

}  // namespace

Result<void> run_hook(const Hook& hook, HeldSignals& signals, bool end_early) {
  EPOCHFS_TRY(pid_t pid, start(hook, signals.mask_before()));
  if (wait_for_end(pid, steady_clock::now() + hook.timeout, signals, end_early)) {
    return take_status(hook, pid);
  }
  end_group(pid, hook.grace);
  if (end_early && signals.caught() != 0) {
    return fail(fmt::format("{}: the command was ended, since SIG{} came", hook.name,
                            ::sigabbrev_np(signals.caught())));
  }
  return fail(fmt::format("{}: the command did not end within {:g} s, and was ended", hook.name,
                          double(hook.timeout.count()) / 1000),
              0, ExitStatus::kTimedOut);
}

}  // namespace epochfs::fs
