// Tree: what does a directory tree look like to an application, and do two look the same?
// Everything that can be told apart is compared, except atime, ctime and inode numbers, which
// no copy can keep. Shares no code with what makes the copies.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "journal/base/types.h"

namespace epochfs::testing {

struct TreeEntry {
  uint32_t mode = 0;  // with the type
  uint32_t uid = 0, gid = 0;
  uint64_t size = 0;  // of regular files and symbolic links
  int64_t mtime_ns = 0;
  uint64_t rdev = 0;
  uint64_t links = 0;     // not of directories: file systems count those as they like
  std::string link_name;  // the first path of the same inode
  std::string symlink_target;
  std::map<std::string, std::string> xattrs;  // ACLs are among them
  uint64_t content_hash = 0;
  std::vector<ByteRange> data;  // all but the holes
  uint64_t allocated_bytes = 0;
};

// By path below the root, as bytes; the root itself is ".".
using TreeSnapshot = std::map<std::string, TreeEntry>;

// Reads a whole tree, which must not change meanwhile. Paths may be longer than PATH_MAX. Does
// not leave the file system. Throws Failure.
TreeSnapshot snapshot(const std::string& root);

struct Strictness {
  bool times = true;
  bool holes = true;               // and allocated blocks
  uint64_t hole_tolerance = 4096;  // bytes by which a hole may differ
};

// One line for each difference, the first `limit` of them.
std::vector<std::string> differences(const TreeSnapshot& expected, const TreeSnapshot& actual,
                                     const Strictness& strictness = {}, size_t limit = 20);

// For EXPECT_TRUE(same_tree(...)).
::testing::AssertionResult same_tree(const TreeSnapshot& expected, const TreeSnapshot& actual,
                                     const Strictness& strictness = {});

}  // namespace epochfs::testing
