// Commands of this folder: epochfs mount, epochfs unmount, epochfs barrier, and the status of
// a mount.
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::fs {

// `epochfs mount DIR [options]`. Returns the exit status, as soon as the mount is
// usable; with --foreground when it has ended. Call it before any other thread
// has been started: it forks.
int mount_command(const Arguments& arguments);

// `epochfs unmount DIR`. Returns when the mount and its process have ended.
int unmount_command(const Arguments& arguments);

// `epochfs barrier DIR`. Prints the number of the epoch that it cut.
int barrier_command(const Arguments& arguments);

// `epochfs status DIR`. Asks the mount itself, so that no daemon need run.
int mount_status_command(const Arguments& arguments);

}  // namespace epochfs::fs
