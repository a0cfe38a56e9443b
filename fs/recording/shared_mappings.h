// SharedMappings: how do stores through shared mappings get into an epoch?
//
// A file system is not told of a store to a mapped page; the kernel sends the page when it sees
// fit. So before an epoch is cut, flush() makes the kernel send what is dirty, and waits for it.
//
// syncfs(2) does not do that for FUSE. Measured with kernel 6.18: it returns before most of the
// writes have begun, and starts none at all for some files while others are being written.
// sync_file_range(2) does wait, one file at a time, through a descriptor of the mount. Only a file
// that is open for reading and writing can have dirty pages, and the kernel sends them before the
// RELEASE of the last such open (also at munmap, exit and kill). So flush() needs only the files
// that are open that way.
//
// Cost: one open and one release for each file and flush, some 40 us; nothing when no file is open
// that way. Opening goes through a private copy of the mount, made for the moment, so the mount
// itself can be unmounted meanwhile.
//
// With -o writeback the kernel gathers writes in the same pages, and sends them when the file is
// closed at the latest. Then every file that is open for writing counts.
//
// Threads: opened() and closed() from any worker; flush() from any other thread, never from a
// worker, since it waits for workers. The mutex is a leaf.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "journal/base/mutex.h"
#include "journal/base/result.h"

namespace epochfs::fs {

class SharedMappings {
 public:
  // The mount answered an open of this node through which the kernel may get dirty pages; or the
  // kernel sent the release. Call each once for each open. Nodes are sent with generation 0.
  void opened(uint64_t node);
  void closed(uint64_t node);

  // Returns when every page that was dirty at the call has been written to the mount at
  // `mountpoint`, whose journal folder is `journal`. A page that could not be written is no error
  // here: msync(2) and fsync(2) tell its application.
  Result<void> flush(const std::string& mountpoint, const std::string& journal);

  size_t nodes() const;

 private:
  std::vector<uint64_t> list() const;

  mutable Mutex mutex_;
  // node -> opens for reading and writing
  std::unordered_map<uint64_t, uint32_t> opens_ EPOCHFS_GUARDED_BY(mutex_);
};

}  // namespace epochfs::fs
