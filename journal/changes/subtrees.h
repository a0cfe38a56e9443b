// Subtrees: where there is no room to tell which names and files changed, below which
// directories did they? A few directories that hold most of what checkpoints tell are
// marked; what lies below a mark is told no more, and compared when it is shipped.
//
// Where a directory lies is asked of the tree as it is now. That suffices, since whoever
// ships a mark walks the tree later than that, and what was moved out in between stands in
// records that are kept.
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
  // The directory that holds this one, in the tree as it is now. nullopt: it is gone, or
  // cannot be opened.
  using ParentOf = std::function<std::optional<Subtree>(const FileHandle&)>;

  // Directories as deep as possible, the root never, that each hold a good part of the
  // names in the checkpoints, and most of them together. Nothing marked: the changes lie
  // all over the tree.
  static Subtrees choose(const std::vector<CheckpointPtr>& checkpoints, const FileId& root,
                         const ParentOf& parent_of);

  const std::vector<Subtree>& marked() const { return marked_; }
  // The mark that the directory lies below, or is. Null: none.
  const Subtree* over(const FileId& directory) const;

 private:
  std::vector<Subtree> marked_;
  std::unordered_map<FileId, size_t> below_;  // of marked_
};

}  // namespace epochfs::journal
