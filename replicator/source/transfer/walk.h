// Walk: what is there, all of it? Goes through a tree as it is now and sends every
// file and every name. It may run while the tree changes: what it misses or sees
// half, the epochs since its beginning complete (session.h says how).
#pragma once

#include <unordered_set>

#include "replicator/source/sending/sender.h"

namespace epochfs::replicator {

class Walk {
 public:
  Walk(EpochReader& reader, Sender& sender) : reader_(reader), sender_(sender) {}

  // Sends the directory and everything below it, unless it was walked before.
  // Directories of other file systems below are left out.
  Result<void> tree(const FileId& root, const FileHandle& handle);
  // The same, whatever was walked before.
  Result<void> tree_anew(const FileId& root, const FileHandle& handle);

  // Sends one file that is no directory, and none of its names.
  Result<void> stray(const FileId& file, const FileHandle& handle);

  bool sent(const FileId& file) const {
    return files_.count(file) != 0 || directories_.count(file) != 0;
  }

  // About how much work (Sender::work_of) the directory and all below it is, by a walk that
  // opens no file: for percentages, so what it cannot see does not matter.
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
