// NetEffect: how much did an epoch change, all in all? What would have to be shipped if
// it were shipped alone: names, files, and bytes that were written and are still there.
#pragma once

#include <unordered_map>

#include "journal/changes/change_set.h"

namespace epochfs::journal {

struct NetCounts {
  uint64_t names = 0;  // that mean something else now
  uint64_t files = 0;  // whose bytes or attributes changed
  uint64_t bytes = 0;  // written, and neither overwritten, cut off nor removed since
  bool gap = false;    // records are missing: anything may have changed
};

class NetEffect {
 public:
  void add(const Record& record);
  // Begins anew afterwards.
  NetCounts finish();

 private:
  Fold fold_;
  // The fold counts a new file as all of it, whatever its size.
  std::unordered_map<FileId, ByteRanges> written_;
};

}  // namespace epochfs::journal
