// Mounts: what is mounted where on this machine, and who keeps it busy? Reads /proc
// only. Knows nothing of volumes.
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

// In the order in which they were made, as far as this process sees them.
Result<std::vector<MountEntry>> all_mounts();

// What one sees at the path, which must be canonical: the mount made last, if the path
// is a mountpoint.
Result<std::optional<MountEntry>> mount_at(const std::string& path);

// Mountpoints below the path, at most `limit`.
std::vector<std::string> mounts_below(const std::string& path, size_t limit);

// The absolute path without symbolic links, also of a mountpoint whose process is gone.
Result<std::string> canonical_path(const std::string& path);

// Processes with a file of that device open, mapped, as working directory, root or
// program: "bash (process 123): working directory". At most `limit`.
std::vector<std::string> holders_of(dev_t device, size_t limit);

}  // namespace epochfs::fs
