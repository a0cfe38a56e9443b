// Walk: how are files below a directory reached and removed without a path, a
// symbolic link or a mount point leading elsewhere? One component at a time,
// from a descriptor. errno style where a caller goes on by the cause.
#pragma once

#include <sys/stat.h>

#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "journal/base/directory.h"
#include "journal/base/unix.h"

namespace epochfs::replicator {

// As openat, of one name inside dir; never follows a symbolic link and never
// crosses a mount point. Descriptor or -errno (EXDEV: a mount point).
int open_beneath(int dir, const char* name, int flags, mode_t mode = 0);

// Attributes of a name, not followed. 0 or -errno.
int stat_beneath(int dir, const char* name, struct stat& out);

// A directory that stays open while somebody holds it.
using Directory = std::shared_ptr<const UniqueFd>;

// The directories used last, by identity: bounded descriptors. One thread.
class DirectoryCache {
 public:
  explicit DirectoryCache(size_t capacity) : capacity_(capacity) {}
  Directory find(FileId id);  // null: not there
  Directory insert(FileId id, UniqueFd fd);
  void clear();

 private:
  using Order = std::list<std::pair<FileId, Directory>>;  // the one used last in front
  size_t capacity_;
  Order order_;
  std::unordered_map<FileId, Order::iterator> by_id_;
};

// Removes all that is in dir, whatever it is. Directories too deep for a bounded
// number of descriptors are first moved to the top. Never leaves dir.
Result<void> empty_directory(int dir, std::string_view what);

}  // namespace epochfs::replicator
