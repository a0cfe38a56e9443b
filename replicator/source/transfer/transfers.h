// Transfers: how does one epoch get to the target? The two kinds of transfer that a session
// makes, over a Session that the target has opened. Runs on the session's thread.
//
// The mount may give up an epoch's pre-images for want of room. Then that epoch can no longer
// be shipped exactly. This is no failure: the epoch is merged forward, which means that a newer
// one is cut and shipped in its place. That happens at once the first time, and after a pause if
// it happens again. The target still holds its old epoch. Of what it has received, it keeps what
// the newer epoch did not change.
#pragma once

#include <optional>
#include <string>

#include "replicator/source/transfer/context.h"

namespace epochfs::replicator {

// Ships what changed since the relationship's cursor, if anything did, and moves the cursor.
// If the journal has a gap, it ships nothing and returns why: a full transfer is due.
Result<std::optional<std::string>> replicate_changes(TransferContext& context);

// Ships the baseline, or reconciles a target: compares everything with what the target holds.
// Afterwards the target is exact at the epoch that the transfer ends with. `base`: the epoch
// that the target holds now. `reason`: why everything is compared, for status.
Result<void> replicate_everything(TransferContext& context, EpochId base,
                                  const std::string& reason);

}  // namespace epochfs::replicator
