// MountUsage: what does a mount's process take up?
#pragma once

#include <chrono>
#include <cstdint>

namespace epochfs::fs {

struct Filesystem;

struct MountUsage {
  uint64_t inodes = 0;      // known to the kernel
  uint64_t open_files = 0;  // of applications, directories too
  uint64_t descriptors = 0, descriptor_limit = 0;
  uint64_t resident_bytes = 0;
  std::chrono::nanoseconds awake{};  // how long idle cores were kept from halting
};

// Any thread. Reads /proc.
MountUsage usage_of(const Filesystem& fs);

// Raises the limit as far as possible, since each open file of the mount is one of the process's.
// Call it before a Filesystem is made, which looks at the limit.
void raise_descriptor_limit();

}  // namespace epochfs::fs
