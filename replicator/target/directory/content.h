// Content: how do changed bytes get from the stage into a file of the target? Durability is the
// caller's.
#pragma once

#include "replicator/target/index/index.h"

namespace epochfs::replicator {

// Makes a range of an open file read as zeros. Punches a hole if the file system can. Does not
// change the size.
Result<void> clear_range(int fd, uint64_t offset, uint64_t length, std::string_view what);

// Writes all staged ranges of a file into `fd`, and sets its size. `extents` is the folder of the
// stage. Large ranges share storage with it if the file system can. Repeatable.
Result<void> apply_ranges(Index& index, int extents, FileId id, int fd, uint64_t size,
                          std::string_view what);

}  // namespace epochfs::replicator
