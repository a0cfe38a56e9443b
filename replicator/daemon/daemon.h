// Daemon: what does `epochfs serve` run? Wires the relationships, peers and sessions of one host
// together, and answers on its control socket (schema/control.capnp). Reads no options.
#pragma once

#include <string>

#include "replicator/peer/transport.h"

namespace epochfs::replicator {

struct DaemonSettings {
  std::string state;    // directory
  std::string control;  // path of the socket
  ListenAddress listen;
};

// Returns after SIGTERM or SIGINT. The process must have one thread.
Result<void> serve(const DaemonSettings& settings);

}  // namespace epochfs::replicator
