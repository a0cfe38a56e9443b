// Unix: descriptors that close themselves, and the few system calls that every folder needs in the
// same form. No policy; nothing here is about journals. Any thread.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "journal/base/clock.h"
#include "journal/base/result.h"
#include "journal/base/text.h"  // for those who name a file in an error
#include "journal/base/types.h"

namespace epochfs {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& o) noexcept : fd_(o.release()) {}
  UniqueFd& operator=(UniqueFd&& o) noexcept {
    reset(o.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// "/proc/self/fd/N": the path of an open file for calls that take no descriptor.
std::string proc_path(int fd);

// Opens a directory for reading. The error names the path.
Result<UniqueFd> open_directory(const std::string& path);

// Reads a whole small file; refuses one that is longer than max_bytes.
Result<std::string> read_file(int dir, const std::string& name, size_t max_bytes);

// pread and pwrite of the full length: they go on after EINTR and short counts. pread_full returns
// fewer bytes than asked for only at the end of the file. `what` names the file in errors.
Result<size_t> pread_full(int fd, void* data, size_t size, uint64_t offset, std::string_view what);
Result<void> pwrite_full(int fd, const void* data, size_t size, uint64_t offset,
                         std::string_view what);

// Attributes and handle of `name` in directory `dir`, or of `dir` itself if the name is empty.
// Does not follow symbolic links. errno style: 0 or -errno.
int identify(int dir, const char* name, struct statx& attributes, FileHandle& handle);
FileId file_id(const struct statx& attributes);

// Opens a file by handle; mount_fd is any open file of the same file system. Needs
// CAP_DAC_READ_SEARCH. errno style: a descriptor, or -errno (ESTALE: the file is gone).
int open_handle(int mount_fd, const FileHandle& handle, int flags);

// Whether the errno of a call to a file says that the process of its FUSE mount is gone. The
// latter two come while the kernel takes a mount over io_uring apart.
inline bool says_mount_is_gone(int error) {
  return error == ENOTCONN || error == ECONNABORTED || error == ECANCELED;
}

}  // namespace epochfs
