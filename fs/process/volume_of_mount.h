// VolumeOfMount: which journal does a mount get? The one that was named; else the one below the
// state directory that belongs to this backing directory; else a new one.
#pragma once

#include <cstdint>
#include <string>

#include "journal/base/result.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

struct JournalPlace {
  std::string state;    // state directory: journals are below it
  std::string journal;  // one journal's folder; empty: found or made below state

  bool is_named() const { return !journal.empty(); }
};

// Not locked yet. quota: in bytes, 0 for none; a new journal gets segments that suit it, and
// an existing one is refused where its segments are too large for it.
Result<journal::Volume> volume_of_mount(const JournalPlace& place,
                                        const journal::VolumeIdentity& identity,
                                        const std::string& backing, uint64_t quota);

}  // namespace epochfs::fs
