#include "journal/commands/names/programs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "journal/base/unix.h"

namespace epochfs::journal {
namespace {

// The wall-clock time at which the machine was started, by the clocks as they are now.
uint64_t boot_ns() {
  timespec up;
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  return now_ns() - (uint64_t(up.tv_sec) * 1'000'000'000 + uint64_t(up.tv_nsec));
}

}  // namespace

const std::string& Programs::of(uint32_t pid, uint64_t time_ns) {
  if (!look_ || pid == 0) return unknown_;
  Process& process = processes_[pid];
  // Another process may have got the pid since the last look.
  if (process.looked_ns == 0 || time_ns > process.looked_ns) process = look_at(pid);
  return process.began_ns <= time_ns ? process.name : unknown_;
}

Programs::Process Programs::look_at(uint32_t pid) {
  Process process;
  process.looked_ns = now_ns();
  auto stat = read_file(AT_FDCWD, fmt::format("/proc/{}/stat", pid), 4096);
  if (!stat) return process;
  // "PID (COMMAND) STATE ...": the command may hold parentheses. Field 22 is the start time.
  const size_t open = stat->find('('), close = stat->rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return process;
  unsigned long long ticks = 0;
  if (std::sscanf(stat->c_str() + close + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
                  "%llu",
                  &ticks) != 1) {
    return process;
  }
  process.name = stat->substr(open + 1, close - open - 1);
  process.began_ns = boot_ns() + ticks * (1'000'000'000 / uint64_t(::sysconf(_SC_CLK_TCK)));
  return process;
}

}  // namespace epochfs::journal
