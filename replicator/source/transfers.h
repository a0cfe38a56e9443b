// Transfers: how does one epoch get to the target? The two kinds of transfer that
// a session makes, over a Session that the target has opened.
#pragma once

#include "replicator/registry.h"
#include "replicator/source/sender.h"
#include "replicator/source/volume_link.h"
#include "replicator/source/walk.h"

namespace epochfs {

// What a session's transfers work with. Borrowed, all of it.
struct TransferContext {
  Registry& registry;
  Storage& storage;
  Interruptible& loop;
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

}  // namespace epochfs
