// Preflight: can this directory be mounted here? Answers before the mount changes anything, except
// that a stale mount, whose process is gone, is removed. Every error names the remedy.
#pragma once

#include <string>

#include "fs/nodes/backing.h"
#include "journal/base/result.h"
#include "journal/base/unix.h"

namespace epochfs::fs {

// Whether this process may mount at all, and the kernel has FUSE.
Result<void> check_machine(const std::string& dir);

// The canonical path of the directory. Clears stale mounts of ours on it.
Result<std::string> existing_directory(const std::string& given);

// Refuses a directory on which a living mount of ours is already. path: canonical.
Result<void> check_not_mounted(const std::string& path);

// Refuses a place for the journal or the state (`what`) inside the volume: a journal in its own
// volume would record its own growth.
Result<void> check_outside(const std::string& what, const std::string& path, const Backing& backing,
                           const std::string& mountpoint);

// Until the descriptor is closed, no other process can mount the same backing directory, with any
// journal.
Result<UniqueFd> lock_directory(const Backing& backing, const std::string& mountpoint);

// pid: the process that has it mounted; 0: unknown.
Error already_mounted(const std::string& dir, int pid);

}  // namespace epochfs::fs
