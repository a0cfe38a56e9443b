// VolumeOfMount: which journal does a mount get? The one that was named; otherwise the one below
// the state directory that belongs to the backing directory; otherwise a new one.
#pragma once

#include <cstdint>
#include <string>

#include "journal/base/result.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

struct JournalPlace {
  std::string state;    // the directory below which journals are
  std::string journal;  // one journal's folder; empty: found or made below state

  bool is_named() const { return !journal.empty(); }
};

// The volume is not locked yet. quota: in bytes, 0 for none. A new journal gets segments that suit
// the quota; an existing one is refused if its segments are too large for it.
Result<journal::Volume> volume_of_mount(const JournalPlace& place,
                                        const journal::VolumeIdentity& identity,
                                        const std::string& backing, uint64_t quota);

}  // namespace epochfs::fs
