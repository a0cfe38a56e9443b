// Content: how do changed bytes get from the stage into a file of the target?
#pragma once

#include "replicator/target/index/index.h"

namespace epochfs::replicator {

// Makes a range of an open file zeros, without storage where the file system can.
// Does not change its size.
Result<void> clear_range(int fd, uint64_t offset, uint64_t length, std::string_view what);

// Writes all staged ranges of a file into `fd`, and gives it its size. `extents`
// is the stage's folder. Shares storage with it where the file system can, for
// what is large. Repeatable.
Result<void> apply_ranges(Index& index, int extents, FileId id, int fd, uint64_t size,
                          std::string_view what);

}  // namespace epochfs::replicator
