// OldTree: where in the target directory are the files that the index knows? Finds them by the
// names that they have in the index, before and while these names change. One thread.
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
  // Says whether a directory may be in limbo already.
  using MayHaveMoved = std::function<Result<bool>(FileId)>;

  OldTree(Index& index, const Folders& folders, MayHaveMoved may_have_moved = nullptr)
      : index_(index),
        folders_(folders),
        may_have_moved_(std::move(may_have_moved)),
        cache_(kCachedDirectories) {}

  // `root`: identity of the source's root. Returns an O_PATH descriptor. Null: the directory is
  // not where the index says.
  Result<Directory> directory(FileId id, FileId root);
  Result<std::optional<struct stat>> stat(const EntryName& entry, FileId root);
  // Whether every name of the file still leads to what the target made, unchanged since.
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

// Null: there is no such directory. Errors: among others, a mount point is in the way.
Result<Directory> open_subdirectory(int dir, const std::string& name, FileId id,
                                    DirectoryCache& cache);

}  // namespace epochfs::replicator
