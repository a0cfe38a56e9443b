// Walk: what does the whole tree hold? Goes through a tree as it is now and sends every file and
// every name. It may run while the tree changes: the epochs since its beginning complete what it
// missed or saw half done (walked_transfer.h). One thread.
#pragma once

#include <unordered_set>

#include "replicator/source/sending/sender.h"

namespace epochfs::replicator {

class Walk {
 public:
  Walk(EpochReader& reader, Sender& sender) : reader_(reader), sender_(sender) {}

  // Sends the directory and everything below it. Leaves out directories that were walked before,
  // and those of other file systems.
  Result<void> tree(const FileId& root, const FileHandle& handle);
  // As tree(), but walks again what was walked before.
  Result<void> tree_anew(const FileId& root, const FileHandle& handle);

  // Sends one file that is not a directory, without its names.
  Result<void> stray(const FileId& file, const FileHandle& handle);

  bool sent(const FileId& file) const {
    return files_.count(file) != 0 || directories_.count(file) != 0;
  }

  // Estimates the work (Sender::work_of) of the directory and all below it, without opening
  // files. Only percentages depend on it, so it skips what it cannot read.
  static uint64_t measure(int directory);

 private:
  struct Directory {
    FileId id;
    FileHandle handle;
  };
  Result<void> directory(const Directory& directory);
  Result<void> entry(const FileId& parent, int dir, const char* name);

  EpochReader& reader_;
  Sender& sender_;
  std::vector<Directory> pending_;
  std::unordered_set<FileId> directories_;
  std::unordered_set<FileId> files_;
  uint64_t device_ = 0;
};

}  // namespace epochfs::replicator
