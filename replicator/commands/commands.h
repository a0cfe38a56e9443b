// Commands: which commands talk to the daemon? Each returns its exit status.
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::replicator {

int relationship_command(const Arguments& arguments);
int status_command(const Arguments& arguments);
int wait_command(const Arguments& arguments);

}  // namespace epochfs::replicator
