// KeepMtime: with -o writeback, whose mtime counts?
//
// The kernel's. It moves the mtime when the application writes, and sends it later by a setattr of
// its own; or not at all, when it is within a tick of the old one. So what the mount does to the
// backing file meanwhile must not move the mtime there. Does nothing in write-through mode, where
// the backing file system's own mtime counts.
//
// Threads: holds one of Filesystem's mtime mutexes for as long as it lives; a leaf. An operation
// that sets an mtime holds it, too.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {

class KeepMtime {
 public:
  // fd: the file; O_PATH is enough. It must stay open for as long as this lives.
  KeepMtime(Filesystem& fs, NodeId node, int fd, bool really = true) : fd_(fd) {
    if (!really || !fs.options.writeback) return;
    lock_.emplace(fs.mtime_mutex(node));
    struct stat st;
    if (::fstat(fd_, &st) == 0) mtime_ = st.st_mtim;
  }
  ~KeepMtime() {
    if (!mtime_) return;
    const int error = errno;
    const timespec times[2] = {{0, UTIME_OMIT}, *mtime_};
    ::utimensat(fd_, "", times, AT_EMPTY_PATH);
    errno = error;
  }
  KeepMtime(const KeepMtime&) = delete;
  KeepMtime& operator=(const KeepMtime&) = delete;

 private:
  const int fd_;
  std::optional<Lock> lock_;
  std::optional<timespec> mtime_;
};

}  // namespace epochfs::fs
