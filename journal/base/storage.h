// Storage: the one door for durable I/O, where a test can fail or stop any single call.
//
// Journal and target make every call that durability rests on through this interface. Its label
// names the call site. Reading, and writing that nothing durable rests on, do not come here.
//
// Threads: any, unless a subclass says otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "journal/base/result.h"

namespace epochfs {

class Storage {
 public:
  virtual ~Storage() = default;

  // Reserves the first `size` bytes of the file, so that later writes to them cannot fail for want
  // of space, not even writes through a mapping. Writes zeros to the bytes that are new: syncing
  // blocks that were written before moves data only and needs no transaction of the file system.
  // `what` goes into the error.
  virtual Result<void> allocate(const char* label, int fd, uint64_t size, std::string_view what);
  // Returns after fdatasync(2).
  virtual Result<void> sync_data(const char* label, int fd, std::string_view what);
  // Returns after fsync(2) of a directory.
  virtual Result<void> sync_directory(const char* label, int dir, std::string_view what);
  // Returns after syncfs(2): every file of that file system is durable.
  virtual Result<void> sync_filesystem(const char* label, int fd, std::string_view what);
  // Replaces dir/name by `bytes` in one durable step: temporary file, fsync, rename, fsync of the
  // directory. Mode 0600.
  virtual Result<void> replace_file(const char* label, int dir, const std::string& name,
                                    std::string_view bytes);
  // The same for a file that has been written already and is open as fd: fsync, rename, fsync of
  // the directory.
  virtual Result<void> publish_file(const char* label, int dir, int fd,
                                    const std::string& temporary, const std::string& name);
  // Returns after fsync of the directory. A file that is not there is no error.
  virtual Result<void> remove_file(const char* label, int dir, const std::string& name);

  // The operating system's own.
  static Storage& system();
};

}  // namespace epochfs
