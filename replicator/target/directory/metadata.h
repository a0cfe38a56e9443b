// Metadata: how does a file on the target get its owner, mode, xattrs and times? Sets exactly
// what the source has, and changes nothing that is right already.
#pragma once

#include "replicator/target/index/node.h"

namespace epochfs::replicator {

// The result as the target's file system stores it.
struct AppliedMetadata {
  uint64_t target_inode = 0;
  Timestamp target_mtime;
};

// Sets the metadata of an open file of any type; O_PATH is enough. Sets times last, so nothing
// may change the file afterwards. Repeatable. Not durable by itself. Errors name the file `what`.
Result<AppliedMetadata> apply_metadata(int fd, const StagedNode& node, std::string_view what);

// Sets mtime only.
Result<void> apply_mtime(int fd, const Timestamp& mtime, std::string_view what);

}  // namespace epochfs::replicator
