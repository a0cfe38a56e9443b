// Programs: what is the process called that made a record? Records hold only its pid, so /proc is
// asked. The answer counts only for a process that still runs and began before the record was made.
// For a journal that is not mounted on this machine nothing is known: its pids mean nothing here.
// One thread.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace epochfs::journal {

class Programs {
 public:
  // look: whether the journal is mounted on this machine now.
  explicit Programs(bool look = false) : look_(look) {}

  // The name as in /proc/PID/comm. Empty: unknown.
  const std::string& of(uint32_t pid, uint64_t time_ns);

 private:
  struct Process {
    uint64_t looked_ns = 0;
    uint64_t began_ns = UINT64_MAX;
    std::string name;
  };
  static Process look_at(uint32_t pid);

  const bool look_;
  const std::string unknown_;
  std::unordered_map<uint32_t, Process> processes_;
};

}  // namespace epochfs::journal
