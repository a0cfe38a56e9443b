// Metadata: how does a file on the target get owner, mode, xattrs and times?
// Sets exactly what is wanted; what is right already costs no change.
#pragma once

#include "replicator/target/index/node.h"

namespace epochfs::replicator {

// What the target's file system made of it.
struct AppliedMetadata {
  uint64_t target_inode = 0;
  Timestamp target_mtime;
};

// Of an open file of any type; O_PATH is enough. Times come last: nothing may
// change the file afterwards. Repeatable. Errors name the file by `what`.
Result<AppliedMetadata> apply_metadata(int fd, const StagedNode& node, std::string_view what);

// mtime alone.
Result<void> apply_mtime(int fd, const Timestamp& mtime, std::string_view what);

}  // namespace epochfs::replicator
