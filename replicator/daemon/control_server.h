// ControlServer: what does the daemon answer on its control socket? Implements the Daemon interface
// of schema/control.capnp over the table of relationships and the board of progress.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <functional>
#include <string>

#include "journal/base/clock.h"
#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"

namespace epochfs::replicator {

struct ControlContext {
  RelationshipTable& table;
  ProgressBoard& board;
  Storage& storage;
  const Clock& clock;
  kj::AsyncIoContext& io;
  std::string state_dir;
  std::string listen;  // address:port in force
  // Starts and stops the session of a source relationship.
  std::function<void(const std::string&id)> start_session, stop_session;
};

// The bootstrap capability. The main thread's loop only.
rpc::Daemon::Client make_control_server(ControlContext& context);

}  // namespace epochfs::replicator
