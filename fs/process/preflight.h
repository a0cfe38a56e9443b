// Preflight: can this directory be mounted here? Asked before a mount changes anything, except
// that a stale mount, whose process is gone, is taken away.
//
// Every error names the remedy.
#pragma once

#include <string>

#include "fs/nodes/backing.h"
#include "journal/base/result.h"
#include "journal/base/unix.h"

namespace epochfs::fs {

// Whether this process may mount at all, and the kernel has FUSE.
Result<void> check_machine(const std::string& dir);

// The canonical path of a directory that answers: a stale mount of ours on it is cleared.
Result<std::string> existing_directory(const std::string& given);

// path: canonical.
Result<void> check_not_mounted(const std::string& path);

// Refuses a place for the journal or the state (`what`) inside the volume: a journal in its own
// volume would record its own growth.
Result<void> check_outside(const std::string& what, const std::string& path, const Backing& backing,
                           const std::string& mountpoint);

// Keeps other processes from mounting the same directory, with whatever journal, until the
// descriptor is closed.
Result<UniqueFd> lock_directory(const Backing& backing, const std::string& mountpoint);

// pid: the process that has it mounted; 0: unknown.
Error already_mounted(const std::string& dir, int pid);

}  // namespace epochfs::fs
