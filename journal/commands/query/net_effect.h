// NetEffect: how much did an epoch change, all in all? Counts what would have to be shipped if the
// epoch were shipped alone: names, files, and bytes that were written and are still there.
#pragma once

#include <unordered_map>

#include "journal/changes/change_set.h"

namespace epochfs::journal {

struct NetCounts {
  uint64_t names = 0;  // names that mean something else now
  uint64_t files = 0;  // files whose bytes or attributes changed
  uint64_t bytes = 0;  // bytes written, counted once, and neither cut off nor removed since
  bool gap = false;    // records are missing: anything may have changed
};

class NetEffect {
 public:
  void add(const Record& record);
  // The counts start at zero again afterwards.
  NetCounts finish();

 private:
  Fold fold_;
  // The fold marks all of a new file as dirty, whatever its size, so written bytes are counted
  // here.
  std::unordered_map<FileId, ByteRanges> written_;
};

}  // namespace epochfs::journal
