// DirtyState: what had changed before this process began? Pins need to know what has changed since
// the oldest epoch that somebody may still ask changes for; where nobody does, since the last one.
#pragma once

#include "journal/base/result.h"
#include "journal/changes/checkpoints.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

class Pins;

// From the checkpoints, and from the records behind them. Before the first mutation.
Result<void> restore_dirty_state(const journal::Volume& volume,
                                 const journal::Checkpoints& checkpoints, Pins& pins);

}  // namespace epochfs::fs
