// What did a range of epochs change, all in all? Folds records where they are there,
// checkpoints where they are not.
#pragma once

#include "journal/changes/change_set.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// Net effect of (since, until]; `until` is sealed. Where the journal no longer tells it
// exactly, it is a gap. Any process, beside a mount that lets records go meanwhile.
Result<ChangeSet> fold_epochs(const Volume& volume, EpochId since, EpochId until,
                              Fold::Cancel cancel);

// Adds the records of (since, until] to the fold. False: some are no longer there, or
// damaged, and the fold is of no use.
Result<bool> fold_records(const Volume& volume, EpochId since, EpochId until, Fold& fold);

}  // namespace epochfs::journal
