// Commands: which commands run the daemon of this host, or talk to it? Each returns its exit
// status.
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::replicator {

int serve_command(const Arguments& arguments);  // after SIGTERM or SIGINT
int relationship_command(const Arguments& arguments);
int status_command(const Arguments& arguments);
int wait_command(const Arguments& arguments);

}  // namespace epochfs::replicator
