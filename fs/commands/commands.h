// Commands: what can be typed about a mount? epochfs mount, unmount and barrier, and the status of
// a mount. Each returns the exit status.
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::fs {

// `epochfs mount DIR [options]`. Returns as soon as the mount is usable; with --foreground, when it
// has ended. It forks, so call it before any other thread starts.
int mount_command(const Arguments& arguments);

// `epochfs unmount DIR`. Returns when the mount and its process have ended.
int unmount_command(const Arguments& arguments);

// `epochfs barrier DIR`. Prints the number of the epoch that it cut.
int barrier_command(const Arguments& arguments);

// `epochfs status DIR`. Asks the mount itself, so no daemon has to run.
int mount_status_command(const Arguments& arguments);

}  // namespace epochfs::fs
