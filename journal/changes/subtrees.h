// Subtrees: below which directories do most of the changes lie? When there is no room to list
// every changed name and file, a few directories that hold most of them are marked. What lies
// below a mark is not listed any more, and is compared when it is shipped.
//
// Where a directory lies is asked of the tree as it is now. That is enough: whoever ships a mark
// walks the tree later than that, and directories that moved out in between are in records that
// are kept.
#pragma once

#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "journal/changes/checkpoint.h"

namespace epochfs::journal {

struct Subtree {
  FileId directory;
  FileHandle handle;
};

class Subtrees {
 public:
  // Returns the parent of a directory, in the tree as it is now. nullopt: the directory is gone, or
  // cannot be opened.
  using ParentOf = std::function<std::optional<Subtree>(const FileHandle&)>;

  // Marks directories that lie as deep as possible, hold a good part of the changed names each,
  // and most of them together. Never marks the root. Nothing marked: the changes are spread over
  // the whole tree.
  static Subtrees choose(const std::vector<CheckpointPtr>& checkpoints, const FileId& root,
                         const ParentOf& parent_of);

  const std::vector<Subtree>& marked() const { return marked_; }
  // The mark that the directory is, or lies below. Null: there is none.
  const Subtree* over(const FileId& directory) const;

 private:
  std::vector<Subtree> marked_;
  std::unordered_map<FileId, size_t> below_;  // of marked_
};

}  // namespace epochfs::journal
