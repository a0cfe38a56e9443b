// Retention: which segments and which entries of the manifest does nobody need any more?
//
// It removes them; it does not know who needs what: its caller names the oldest epoch.
//
// One thread at a time, beside any number that append.
#pragma once

#include "journal/volume/epochs.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// What is kept for inspection of the segments that nobody needs.
struct Retention {
  uint64_t bytes = 256 << 20;
  uint64_t age_ns = UINT64_MAX;  // of a segment's newest record
};

// Removes the segments that hold nothing after `oldest`'s seal, except for what is to be kept,
// and then the entries of the manifest that are no longer needed. False: some segments stay only
// because they reach behind `settled`.
Result<bool> release_up_to(Storage& storage, const Volume& volume, EpochManifest& manifest,
                           EpochId oldest, Lsn settled, const Retention& keep);

}  // namespace epochfs::journal
