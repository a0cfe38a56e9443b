// Limbo: where do files wait that have left their place? Files that get another
// place later go by their identity, what is to be removed by a number.
#pragma once

#include <string>

#include "replicator/target/directory/beneath.h"
#include "replicator/target/index/node.h"

namespace epochfs::replicator {

class Limbo {
 public:
  explicit Limbo(int fd) : fd_(fd) {}

  int fd() const { return fd_; }

  // Takes dir/name in, to be found again by id. False: there is nothing of that
  // name; then it may be in limbo already (holds).
  Result<bool> take(int dir, const std::string& name, FileId id);
  Result<bool> holds(FileId id) const;
  // Takes in what has no business at dir/name. Nothing there: nothing to do.
  Result<void> displace(int dir, const std::string& name);

 private:
  int fd_;
  uint64_t displaced_ = 0;
};

// As renameat, but never replaces anything. 0 or -errno.
int rename_beneath(int from_dir, const char* from, int to_dir, const char* to);

}  // namespace epochfs::replicator
