// Transfer calls: what do the two kinds of transfer do alike? Each begins with a plan, sends
// files and names, and commits, upon which the cursor moves.
#pragma once

#include "journal/changes/change_set.h"
#include "replicator/source/sending/sender.h"
#include "replicator/source/transfer/context.h"

namespace epochfs::replicator {

struct Plan {
  EpochId epoch{}, base{}, walk_since{};
  uint64_t barrier_time_ns = 0;
  uint64_t state_hash = 0;
  bool full = false;
  FileId root;
};

// Where the target's state turns out to be another than was thought, both note that
// everything is to be compared next, and fail.
Result<rpc::Transfer::Client> begin(TransferContext& c, const Plan& plan);
Result<void> commit(TransferContext& c, rpc::Transfer::Client& transfer, const Plan& plan);

// Makes the next transfer a full one, with a walk that begins now.
Result<EpochId> begin_new_walk(TransferContext& c);

Result<void> send_change_set(Sender& sender, const journal::ChangeSet& set);

// An epoch was given up; the caller pins the next. `times`: in a row, before this one.
void merge_forward(TransferContext& c, unsigned& times);

void note_sealed(TransferContext& c, EpochId epoch);

// Notes that the target holds `epoch` now: relationship first, then the journal's
// cursor, which only ever lags behind.
Result<void> advance_cursor(TransferContext& c, EpochId epoch, uint64_t state_hash,
                            uint64_t barrier_time_ns);

}  // namespace epochfs::replicator
