#include "journal/changes/fold_epochs.h"

#include <fmt/format.h>

#include "journal/changes/checkpoints.h"
#include "journal/log/reader.h"
#include "journal/volume/epochs.h"

namespace epochfs::journal {
namespace {

void add(const Checkpoint& checkpoint, Fold& fold) {
  if (checkpoint.info().gap) return fold.add_gap(checkpoint.info().gap_lsn);
  for_each_change(checkpoint, [&](const auto& key, const auto& change) { fold.add(key, change); });
}

// Adds the checkpoints of (since, until]. Returns the last epoch that they cover. nullopt: a
// checkpoint spans one of the two ends.
std::optional<EpochId> fold_checkpoints(const std::vector<CheckpointPtr>& checkpoints,
                                        EpochId since, EpochId until, Fold::Cancel cancel,
                                        Fold& fold) {
  EpochId reached = since;
  for (const CheckpointPtr& c : checkpoints) {
    if (c->info().last <= reached || c->info().first > until) continue;
    if (c->info().last > until) return std::nullopt;
    // What cancelled out over a longer range need not cancel out over this one.
    const bool begins_there = c->info().first == next(reached);
    if (!begins_there && (cancel == Fold::Cancel::kDrop || c->info().first > reached)) {
      return std::nullopt;
    }
    add(*c, fold);
    reached = c->info().last;
  }
  return reached;
}

Result<std::optional<ChangeSet>> try_fold(const Volume& volume,
                                          const std::vector<CheckpointPtr>& checkpoints,
                                          EpochId since, EpochId until, Fold::Cancel cancel) {
  Fold fold;
  auto reached = fold_checkpoints(checkpoints, since, until, cancel, fold);
  if (!reached) {  // perhaps the records still exist
    fold = Fold();
    reached = since;
  }
  EPOCHFS_TRY(bool whole, fold_records(volume, *reached, until, fold));
  if (!whole) return std::optional<ChangeSet>();
  return std::optional(fold.finish(cancel));
}

}  // namespace

Result<bool> fold_records(const Volume& volume, EpochId since, EpochId until, Fold& fold) {
  if (since >= until) return true;
  EPOCHFS_TRY(auto last, read_epoch(volume.dir(), until));
  EPOCHFS_TRY(auto before, read_epoch(volume.dir(), since));
  if (!last || last->epoch != until) {
    return fail(fmt::format("fold epochs up to {}: it is not in the manifest", value(until)));
  }
  if (value(since) > 0 && !before) return false;
  JournalReader reader(volume);
  // Begins at the seal of `since`. Epoch 0 means the beginning of the journal.
  const Lsn from = before && value(since) > 0 ? before->seal : Lsn{kSegmentHeaderBytes};
  EPOCHFS_TRY(Lsn oldest, reader.oldest());
  if (from < oldest) return false;
  std::vector<Damage> damage;
  EPOCHFS_DO(reader.read(
      from,
      [&](const Record& r) {
        if (r.epoch > since && r.epoch <= until) fold.add(r);
        return r.lsn < last->seal;
      },
      &damage));
  // Segments are released from the beginning, and the reader does not notice one that went while
  // it read. So look again at where the log begins.
  EPOCHFS_TRY(oldest, reader.oldest());
  return damage.empty() && from >= oldest;
}

// While this reads, the mount may replace records by a checkpoint. Then it is tried again.
Result<ChangeSet> fold_epochs(const Volume& volume, EpochId since, EpochId until,
                              Fold::Cancel cancel) {
  std::optional<EpochId> tried_up_to;
  for (;;) {
    EPOCHFS_TRY(auto checkpoints, read_checkpoints(volume));
    const EpochId up_to = checkpoints.empty() ? EpochId{0} : checkpoints.back()->info().last;
    if (tried_up_to == up_to) break;
    tried_up_to = up_to;
    EPOCHFS_TRY(auto folded, try_fold(volume, checkpoints, since, until, cancel));
    if (folded) return *std::move(folded);
  }
  ChangeSet unknown;
  unknown.gap = true;
  return unknown;
}

}  // namespace epochfs::journal
