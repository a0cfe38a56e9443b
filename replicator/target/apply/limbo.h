// Limbo: where are files between two places? A file that will be placed again is kept under its
// identity. A file that will be removed is kept under a number.
#pragma once

#include <string>

#include "replicator/target/directory/beneath.h"
#include "replicator/target/index/node.h"

namespace epochfs::replicator {

class Limbo {
 public:
  explicit Limbo(int fd) : fd_(fd) {}

  int fd() const { return fd_; }

  // Moves dir/name into limbo, under its id. False: dir has no such name; then the file may be
  // in limbo already (holds).
  Result<bool> take(int dir, const std::string& name, FileId id);
  Result<bool> holds(FileId id) const;
  // Moves what is at dir/name into limbo, to be removed. Succeeds if nothing is there.
  Result<void> displace(int dir, const std::string& name);

 private:
  int fd_;
  uint64_t displaced_ = 0;
};

// Like renameat, but never replaces anything. 0 or -errno.
int rename_beneath(int from_dir, const char* from, int to_dir, const char* to);

}  // namespace epochfs::replicator
