// Transfers: how does one epoch get to the target? The two kinds of transfer that
// a session makes, over a Session that the target has opened.
#pragma once

#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"
#include "replicator/source/reading/volume_link.h"
#include "replicator/source/sending/sender.h"
#include "replicator/source/transfer/walk.h"

namespace epochfs::replicator {

// An epoch whose pre-images the mount has given up, for want of room, cannot be shipped
// exactly any more. That is no failure: it is merged forward, which is to say that a newer
// one is cut and shipped in its place, at once the first time, and after a pause where it
// keeps happening. The target holds what it held, and of what it has received it keeps what
// the newer epoch did not change.

// What a session's transfers work with. Borrowed, all of it.
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

// Ships what changed since the relationship's cursor, if anything did, and moves
// the cursor. Otherwise it returns why records are missing: a full transfer is due.
Result<std::optional<std::string>> replicate_changes(TransferContext& context);

// Baseline or reconciliation, exact at the epoch that it ends with. `base` is
// what the target holds now, `reason` why everything is compared with that.
Result<void> replicate_everything(TransferContext& context, EpochId base,
                                  const std::string& reason);

// Notes that the target holds `epoch` now: relationship first, then the journal's
// cursor, which only ever lags behind.
Result<void> advance_cursor(TransferContext& context, EpochId epoch, uint64_t state_hash,
                            uint64_t barrier_time_ns);

}  // namespace epochfs::replicator
