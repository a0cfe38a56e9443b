// Transfer calls: which steps do both kinds of transfer have? Each begins with a plan, sends
// files and names, and commits. The commit moves the cursor.
#pragma once

#include "journal/changes/change_set.h"
#include "replicator/source/sending/sender.h"
#include "replicator/source/transfer/context.h"
#include "replicator/source/transfer/history.h"

namespace epochfs::replicator {

struct Plan {
  EpochId epoch{}, base{}, walk_since{};
  uint64_t barrier_time_ns = 0;
  uint64_t state_hash = 0;
  bool full = false;
  FileId root;
};

// If the target's state differs from what the source believes, both fail and note that the next
// transfer must compare everything. commit moves the cursor.
Result<rpc::Transfer::Client> begin(TransferContext& c, const Plan& plan);
Result<void> commit(TransferContext& c, rpc::Transfer::Client& transfer, const Plan& plan);

// Makes the next transfer a full one, whose walk begins now. Returns the newest sealed epoch.
Result<EpochId> begin_new_walk(TransferContext& c);

// Fills in the epoch that the plan ends with: its number, time and state hash.
Result<void> end_with(TransferContext& c, Plan& plan, EpochId epoch);

// Sends the files and names of a change set. Returns when the target has answered every call.
Result<void> send_change_set(Sender& sender, const journal::ChangeSet& set,
                             const Versions& versions);

// Counts an epoch that was given up, and pauses if it is not the first in a row. The caller pins
// the next one. `times`: how many were given up in a row before; is incremented.
void merge_forward(TransferContext& c, unsigned& times);

// Notes the newest sealed epoch, for status.
void note_sealed(TransferContext& c, EpochId epoch);

// Notes that the target holds `epoch` now. Writes the relationship first and the journal's
// cursor last, so that the cursor can only lag behind.
Result<void> advance_cursor(TransferContext& c, EpochId epoch, uint64_t state_hash,
                            uint64_t barrier_time_ns);

}  // namespace epochfs::replicator
