// WalkedTransfer: how does a target become exact whose difference the journal does not tell,
// or not all of it? The tree is walked as it is, all of it or some subtrees, and then an
// epoch is sent, since a moment before the walk: what was walked was as it is in that epoch
// already, or it has changed since, and is sent again (DESIGN.md).
#pragma once

#include <optional>
#include <unordered_map>

#include "replicator/source/transfer/meters.h"
#include "replicator/source/transfer/transfer_calls.h"
#include "replicator/source/transfer/walk.h"

namespace epochfs::replicator {

class WalkedTransfer {
 public:
  // base and walk_since of the plan are given; the epoch is sent that changed since `since`.
  // what: is compared. reason: why.
  WalkedTransfer(TransferContext& c, const Plan& plan, EpochId since, Progress::Phase phase,
                 const char* what, const std::string& reason);
  WalkedTransfer(const WalkedTransfer&) = delete;

  // Moves the cursor in the end.
  Result<void> run(bool whole_tree);

 private:
  Result<Lsn> seal_of(EpochId epoch) const;
  Result<void> walk_everything();
  // Of subtrees the set tells only what came after a record of theirs: those that were not
  // walked since. Returns whether there were any, and another epoch is due.
  Result<bool> walk_subtrees(const journal::ChangeSet& set);
  // Sends what the change set has moved and the walk has never seen. Returns whether
  // there was any: what is read now is newer than the epoch, so another is due.
  Result<bool> walk_strays(const journal::ChangeSet& set);
  Result<void> send(PinnedEpoch& pinned, const journal::ChangeSet& set);
  Result<void> finish(PinnedEpoch& pinned);
  Result<void> begin_anew();

  TransferContext& c_;
  Plan plan_;
  const EpochId since_;
  ProgressMeter meter_;
  ComparisonMeter comparison_;
  EpochReader live_;
  std::optional<rpc::Transfer::Client> transfer_;
  std::unique_ptr<Sender> walker_;
  std::optional<Walk> walk_;
  Lsn all_walked_{};                        // all subtrees were, behind this seal
  std::unordered_map<FileId, Lsn> walked_;  // and this one behind this
};

}  // namespace epochfs::replicator
