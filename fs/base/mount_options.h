// MountOptions: what does "-o a,b=c" ask for? The one place that knows mount options, whether
// they come from the command line, from mount(8) or from /etc/fstab.
#pragma once

#include <string>
#include <vector>

#include "fs/base/housekeeping_options.h"
#include "fs/base/idle_latency.h"
#include "journal/base/result.h"

namespace epochfs::fs {

struct MountOptions {
  // Never more than what the mount of the backing directory allows.
  bool suid = true, dev = true, exec = true;
  // The kernel gathers small writes before it sends them: README.md, "Two modes".
  bool writeback = false;
  WakeupMode wakeup = WakeupMode::kAdaptive;
  // Requests come over io_uring if the kernel has it; otherwise through /dev/fuse.
  bool io_uring = true;
  HousekeepingOptions housekeeping;
};

// Each element is the value of one -o. An unknown option is an error of status kUsage. Options
// that mean something only to mount(8), to systemd or to other file systems are ignored.
Result<MountOptions> parse_mount_options(const std::vector<std::string>& values);

}  // namespace epochfs::fs
