// Daemon: what does `epochfs serve` run? Wires the relationships, peers and sessions of one host
// together, and answers on its control socket (schema/control.capnp).
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::replicator {

// Returns the exit status, after SIGTERM or SIGINT.
int serve_command(const Arguments& arguments);

}  // namespace epochfs::replicator
