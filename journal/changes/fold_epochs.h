// FoldEpochs: what did a range of epochs change, all in all? Folds the checkpoints of the range,
// then the records behind them.
#pragma once

#include "journal/changes/change_set.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// The net effect of (since, until]. `until` must be sealed. If the journal cannot tell it exactly
// any more, the result is a gap. Any process; the mount may release records meanwhile.
Result<ChangeSet> fold_epochs(const Volume& volume, EpochId since, EpochId until,
                              Fold::Cancel cancel);

// Adds the records of (since, until] to the fold. False: some are missing or damaged, and the fold
// is useless.
Result<bool> fold_records(const Volume& volume, EpochId since, EpochId until, Fold& fold);

}  // namespace epochfs::journal
