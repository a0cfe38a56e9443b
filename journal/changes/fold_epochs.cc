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

// Adds the checkpoints that tell of (since, until]. Returns the epoch up to which they
// do; nullopt: one of them spans one of the two ends.
std::optional<EpochId> fold_checkpoints(const std::vector<CheckpointPtr>& checkpoints,
                                        EpochId since, EpochId until, Fold::Cancel cancel,
                                        Fold& fold) {
  EpochId reached = since;
  for (const CheckpointPtr& c : checkpoints) {
    if (c->info().last <= reached || c->info().first > until) continue;
    if (c->info().last > until) return std::nullopt;
    // What cancelled out between two other epochs need not between these.
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
  if (!reached) {  // perhaps the records are still there
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
  // Begin behind the seal of `since`; epoch 0 is the beginning of the journal.
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
  // Segments go from the beginning; one that went while it was to be read is not missed.
  EPOCHFS_TRY(oldest, reader.oldest());
  return damage.empty() && from >= oldest;
}

// While it reads, the mount may put a checkpoint in the place of records: then once more.
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
