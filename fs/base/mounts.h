// Mounts: what is mounted where on this machine, and which processes keep it busy? Only reads
// /proc. Knows nothing of volumes.
//
// Threads: any.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "journal/base/result.h"

namespace epochfs::fs {

constexpr const char* kMountType = "fuse.epochfs";

struct MountEntry {
  std::string mountpoint;
  std::string type;    // "fuse.epochfs"
  std::string source;  // of an epochfs mount: the backing directory
  dev_t device = 0;    // st_dev of its files
};

// All mounts that this process sees, oldest first.
Result<std::vector<MountEntry>> all_mounts();

// The mount that is visible at the path: the newest one there. nullopt: the path is no
// mountpoint. The path must be canonical.
Result<std::optional<MountEntry>> mount_at(const std::string& path);

// Mountpoints below the path, at most `limit`.
std::vector<std::string> mounts_below(const std::string& path, size_t limit);

// The absolute path without symbolic links. Works for a mountpoint whose process is gone, too.
Result<std::string> canonical_path(const std::string& path);

// Processes that have a file of that device open, mapped, as working directory, as root or as
// program: "bash (process 123): working directory". At most `limit`, without this process.
std::vector<std::string> holders_of(dev_t device, size_t limit);

}  // namespace epochfs::fs
