// OldTree: where in the target directory is what the index says is there? Finds
// files by the names that they have in the index, before or while these change.
#pragma once

#include <sys/stat.h>

#include <functional>
#include <optional>

#include "replicator/target/directory/beneath.h"
#include "replicator/target/directory/folders.h"
#include "replicator/target/index/index.h"

namespace epochfs::replicator {

constexpr size_t kCachedDirectories = 64;

class OldTree {
 public:
  // Tells whether a directory may be in limbo already.
  using MayHaveMoved = std::function<Result<bool>(FileId)>;

  OldTree(Index& index, const Folders& folders, MayHaveMoved may_have_moved = nullptr)
      : index_(index),
        folders_(folders),
        may_have_moved_(std::move(may_have_moved)),
        cache_(kCachedDirectories) {}

  // O_PATH descriptor; null: it is not where the index says.
  Result<Directory> directory(FileId id, FileId root);
  Result<std::optional<struct stat>> stat(const EntryName& entry, FileId root);
  // The file is the one that the target made, with the bytes that it got.
  Result<bool> is_intact(FileId id, const IndexedNode& node, FileId root);
  void clear() { cache_.clear(); }

 private:
  Result<Directory> start(FileId& id, FileId root,
                          std::vector<std::pair<FileId, std::string>>& trail);

  Index& index_;
  const Folders& folders_;
  MayHaveMoved may_have_moved_;
  DirectoryCache cache_;
};

// Null: there is no such directory. Errors: a mount point is in the way, and others.
Result<Directory> open_subdirectory(int dir, const std::string& name, FileId id,
                                    DirectoryCache& cache);

}  // namespace epochfs::replicator
