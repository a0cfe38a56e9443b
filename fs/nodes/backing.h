// Backing: can this directory hold the data, and how is it reached when a mount lies over it?
// Changes nothing.
#pragma once

#include <string>

#include "fs/nodes/inode_table.h"
#include "journal/base/result.h"

namespace epochfs::fs {

struct Backing {
  std::string path;  // canonical
  // The directory itself, open for reading, in a private copy of its mount. Nothing that is
  // mounted over it or below it is seen through it, now or later: mountpoints below it show as
  // the directories they cover.
  Inode root;
  unsigned long flags = 0;  // ST_RDONLY, ST_NOSUID, ... of the mount that it is on
};

// path: canonical. Refuses what is no directory, is on FUSE, or has no file handles; every error
// names the remedy.
Result<Backing> open_backing(const std::string& path);

// Whether `path` is the open directory or lies in it. The path need not exist yet.
bool lies_within(const std::string& path, int dir);

}  // namespace epochfs::fs
