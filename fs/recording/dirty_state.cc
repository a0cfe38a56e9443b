#include "fs/recording/dirty_state.h"

#include <algorithm>

#include "fs/recording/pins.h"
#include "journal/changes/change_set.h"
#include "journal/log/reader.h"
#include "journal/volume/cursors.h"
#include "journal/volume/epochs.h"

namespace epochfs::fs {

Result<void> restore_dirty_state(const journal::Volume& volume, const journal::Checkpoints& all,
                                 Pins& pins) {
  EPOCHFS_TRY(auto newest, journal::read_last_epoch(volume.dir()));
  auto cursors = journal::read_cursors(volume.dir());
  // A damaged cursor may stand anywhere. Then all counts as dirty until the first seal, and the
  // housekeeper reports which cursor it is.
  if (!cursors && cursors.error().status == ExitStatus::kCorrupt) return {};
  if (!cursors) return tl::unexpected(cursors.error());
  const EpochId newest_epoch = newest ? newest->epoch : EpochId{0};
  const EpochId since =
      std::min(journal::oldest_epoch(*cursors).value_or(newest_epoch), newest_epoch);
  std::vector<journal::CheckpointPtr> checkpoints;
  for (const journal::CheckpointPtr& c : all.all()) {
    if (c->info().last > since) checkpoints.push_back(c);
  }
  // Changes up to this epoch are in checkpoints; those behind it are in records.
  EpochId folded = checkpoints.empty() ? since : checkpoints.back()->info().last;
  const EpochId known_since =
      checkpoints.empty() ? since : EpochId{value(checkpoints.front()->info().first) - 1};
  EPOCHFS_TRY(auto sealed, journal::read_epoch(volume.dir(), folded));
  const Lsn from = sealed ? sealed->seal : Lsn{0};

  journal::Fold fold;
  journal::JournalReader reader(volume);
  EPOCHFS_DO(reader.read(from, [&](const journal::Record& record) {
    if (record.lsn > from) fold.add(record);
    return true;
  }));
  journal::ChangeSet changes = fold.finish();
  EPOCHFS_TRY(Lsn oldest, reader.oldest());
  if (value(from) != 0 && oldest > from) changes.gap = true;  // some of the records are gone
  pins.restore(checkpoints, changes, known_since);
  return {};
}

}  // namespace epochfs::fs
