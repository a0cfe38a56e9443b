// Backing: is this directory fit to hold the data, and how is it reached when a mount
// lies over it? Changes nothing.
#pragma once

#include <string>

#include "fs/nodes/inode_table.h"
#include "journal/base/result.h"

namespace epochfs::fs {

struct Backing {
  std::string path;  // canonical
  // The directory itself, open for reading, in a private copy of its mount: neither what
  // is mounted over it or below it is seen through it, now or later. Where file
  // systems are mounted below it, their mountpoints show as the directories they are.
  Inode root;
  unsigned long flags = 0;  // ST_RDONLY, ST_NOSUID, ... of the mount it is on
};

// path: canonical. The errors name the remedy: not a directory, no handles, on FUSE.
Result<Backing> open_backing(const std::string& path);

// Whether `path`, which need not exist yet, lies in the open directory or is it.
bool lies_within(const std::string& path, int dir);

}  // namespace epochfs::fs
