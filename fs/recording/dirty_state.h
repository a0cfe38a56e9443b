// DirtyState: what had changed before this process began? Pins need to know what has changed since
// the oldest cursor; without a cursor, since the newest sealed epoch.
#pragma once

#include "journal/base/result.h"
#include "journal/changes/checkpoints.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

class Pins;

// Reads the checkpoints, and the records behind them. Call it before the first mutation.
Result<void> restore_dirty_state(const journal::Volume& volume,
                                 const journal::Checkpoints& checkpoints, Pins& pins);

}  // namespace epochfs::fs
