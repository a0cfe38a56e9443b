// Operation: what does an application do to a tree? One thing, as a value, so that a test can
// do the same to a directory and to a model of it.
#pragma once

#include <cstdint>
#include <string>

namespace epochfs::testing {

struct Operation {
  enum class Kind {
    kCreate,           // path, mode, and its first `length` bytes
    kTemporary,        // the same by way of a file without a name
    kMakeDirectory,    // path, mode
    kMakeNode,         // path, mode with the type, rdev
    kSymlink,          // path; value: what it points to
    kLink,             // path -> path2
    kUnlink,           // path
    kRemoveDirectory,  // path
    kRename,           // path -> path2, mode: renameat2's flags
    kWrite,            // path, offset, length
    kAppend,           // path, length
    kMapWrite,         // path, offset, length, within the file
    kTruncate,         // path, length
    kAllocate,         // path, offset, length, mode: fallocate's
    kCopyRange,        // path, offset, length -> path2, offset2
    kChangeMode,       // path, mode
    kChangeOwner,      // path, uid, gid
    kChangeTimes,      // path, seconds and nanoseconds of mtime
    kSetXattr,         // path, name, value
    kRemoveXattr,      // path, name
  };

  Kind kind = Kind::kCreate;
  std::string path = {}, path2 = {};  // below the root
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t rdev = 0;
  uint64_t offset = 0, offset2 = 0, length = 0;
  uint64_t seed = 0;  // of the bytes that are written
  int64_t seconds = 0, nanoseconds = 0;
  std::string name = {}, value = {};
};

// One line, for messages.
std::string describe(const Operation& operation);

// Does it to a real tree. 0 or an errno, that of the system call that the kind is named
// after; throws Failure where another fails.
int perform(int root, const Operation& operation);

}  // namespace epochfs::testing
