// SharedMappings: how do stores through shared mappings get into an epoch?
//
// Nobody tells a file system of a store to a mapped page; the kernel sends the page
// when it sees fit. So before an epoch is cut, the kernel is made to send what is
// dirty, and waited for.
//
// syncfs(2) does not do that for FUSE: measured with kernel 6.18, it returns before
// most of the writes have begun, and starts none at all for some files while others
// are being written. What waits is sync_file_range(2), a file at a time, through a
// descriptor of the mount. It takes a file to be opened for reading and writing to
// have dirty pages, and the kernel sends them before the RELEASE of the last such
// open (at munmap, exit and kill, too): so the files that are open that way are all
// that there is to ask.
//
// Cost: one open and one release a file and flush, some 40 us; nothing when no file
// is open that way. Opening goes through a private copy of the mount, made for the
// moment: the mount itself can be unmounted meanwhile.
//
// With -o writeback the kernel gathers writes in the same pages, and sends them at the
// latest when the file is closed: a file that is open for writing in any way then counts.
//
// Threads: opened() and closed() from any worker; flush() from any other thread, never
// from a worker, for it waits for workers. The mutex is a leaf.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include "journal/base/mutex.h"
#include <vector>

#include "journal/base/result.h"

namespace epochfs::fs {

class SharedMappings {
 public:
  // The kernel was answered an open of this node (entries have generation 0) through
  // which it may get dirty pages, or sent its release. Once for each open.
  void opened(uint64_t node);
  void closed(uint64_t node);

  // Returns when every page that was dirty at the call has been written to the mount
  // at `mountpoint`, whose journal folder is `journal`. That a page could not be
  // written is no error: its application is told of it by msync(2) and fsync(2).
  Result<void> flush(const std::string& mountpoint, const std::string& journal);

  size_t nodes() const;

 private:
  std::vector<uint64_t> list() const;

  mutable Mutex mutex_;
  // node -> opens for reading and writing
  std::unordered_map<uint64_t, uint32_t> opens_ EPOCHFS_GUARDED_BY(mutex_);
};

}  // namespace epochfs::fs
