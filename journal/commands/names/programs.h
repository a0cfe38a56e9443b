// Programs: what is the process called that made a record? Records hold its pid only, so
// /proc is asked, and answers for processes that still run and had begun before the record
// was made. Of a journal that is not mounted here nothing is known: a pid may be anybody's.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace epochfs::journal {

class Programs {
 public:
  // look: the journal is mounted on this machine now.
  explicit Programs(bool look = false) : look_(look) {}

  // As in /proc/PID/comm; empty: not known.
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
