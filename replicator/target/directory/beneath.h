// Beneath: how are files below a directory reached and removed, so that no path, symbolic link or
// mount point leads elsewhere? One component at a time, from a descriptor. Functions return
// -errno where callers act on the cause.
#pragma once

#include <sys/stat.h>

#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "journal/base/directory.h"
#include "journal/base/unix.h"

namespace epochfs::replicator {

// Like openat, for one name inside dir. Never follows a symbolic link, never crosses a mount
// point. Returns a descriptor or -errno (EXDEV: a mount point).
int open_beneath(int dir, const char* name, int flags, mode_t mode = 0);

// The attributes of a name; a symbolic link is not followed. 0 or -errno.
int stat_beneath(int dir, const char* name, struct stat& out);

// An open directory. It is closed when its last holder lets go of it.
using Directory = std::shared_ptr<const UniqueFd>;

// The directories used last, by identity. Bounds the number of descriptors. One thread.
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

// Removes everything in dir. Bounds the number of descriptors: a directory that is too deep is
// first moved to the top. Never leaves dir.
Result<void> empty_directory(int dir, std::string_view what);

}  // namespace epochfs::replicator
