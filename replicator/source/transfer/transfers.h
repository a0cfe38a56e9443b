// Transfers: how does one epoch get to the target? The two kinds of transfer that
// a session makes, over a Session that the target has opened.
#pragma once

#include <optional>
#include <string>

#include "replicator/source/transfer/context.h"

namespace epochfs::replicator {

// An epoch whose pre-images the mount has given up, for want of room, cannot be shipped
// exactly any more. That is no failure: it is merged forward, which is to say that a newer
// one is cut and shipped in its place, at once the first time, and after a pause where it
// keeps happening. The target holds what it held, and of what it has received it keeps what
// the newer epoch did not change.

// Ships what changed since the relationship's cursor, if anything did, and moves
// the cursor. Otherwise it returns why records are missing: a full transfer is due.
Result<std::optional<std::string>> replicate_changes(TransferContext& context);

// Baseline or reconciliation, exact at the epoch that it ends with. `base` is
// what the target holds now, `reason` why everything is compared with that.
Result<void> replicate_everything(TransferContext& context, EpochId base,
                                  const std::string& reason);

}  // namespace epochfs::replicator
