// TransferContext: what do all parts of a transfer work with? The session makes one for each
// connection and lends it to the transfers.
#pragma once

#include <string>

#include "journal/base/storage.h"
#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"
#include "replicator/source/reading/volume_link.h"
#include "schema/replication.capnp.h"

namespace epochfs::replicator {

// Borrows all of it. Used by the session's thread only.
struct TransferContext {
  RelationshipTable& table;
  ProgressBoard& board;
  Storage& storage;
  Interruptible& loop;
  kj::Timer& timer;
  VolumeLink& volume;
  rpc::Session::Client session;
  std::string relationship;
};

}  // namespace epochfs::replicator
