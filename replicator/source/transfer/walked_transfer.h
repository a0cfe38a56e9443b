// WalkedTransfer: how is the target made exact when the journal cannot tell everything that
// differs? It walks the live tree, all of it or some subtrees. Then it sends an epoch, with all
// that changed since a moment before the walk. What the walk read either did not change and is
// as the epoch has it, or it changed and is sent again (DESIGN.md). One thread.
#pragma once

#include <optional>
#include <unordered_map>

#include "replicator/source/transfer/meters.h"
#include "replicator/source/transfer/transfer_calls.h"
#include "replicator/source/transfer/walk.h"

namespace epochfs::replicator {

class WalkedTransfer {
 public:
  // The plan has base and walk_since; the rest is filled in here. `since`: everything that
  // changed after this epoch is sent. `what` is compared, and `reason` says why, for the log and
  // status.
  WalkedTransfer(TransferContext& c, const Plan& plan, EpochId since, Progress::Phase phase,
                 const char* what, const std::string& reason);
  WalkedTransfer(const WalkedTransfer&) = delete;

  // Returns when the target has committed the epoch and the cursor has moved. With whole_tree it
  // walks everything first.
  Result<void> run(bool whole_tree);

 private:
  Result<Lsn> seal_of(EpochId epoch) const;
  Result<void> walk_everything();
  // Walks the subtrees of the set that were not walked since their newest mark. Returns true if
  // there were any: then another epoch is due.
  Result<bool> walk_subtrees(const journal::ChangeSet& set);
  // Sends what the change set has moved and the walk has not seen. Returns true if there was
  // any: it was read after the epoch was cut, so another epoch is due.
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
  Lsn all_walked_{};                        // the whole tree was walked after this seal
  std::unordered_map<FileId, Lsn> walked_;  // and these subtrees after these seals
};

}  // namespace epochfs::replicator
