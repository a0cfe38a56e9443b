#include "journal/base/unix.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>

#include "journal/base/regular_file.h"

namespace epochfs {

std::string proc_path(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

Result<UniqueFd> open_directory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno("open directory " + path);
  return fd;
}

Result<std::string> read_file(int dir, const std::string& name, size_t max_bytes) {
  EPOCHFS_TRY(UniqueFd fd, open_regular(dir, name));
  std::string bytes(max_bytes + 1, '\0');
  EPOCHFS_TRY(size_t size, pread_full(fd.get(), bytes.data(), bytes.size(), 0, name));
  if (size > max_bytes) return fail("read " + name, EFBIG);
  bytes.resize(size);
  return bytes;
}

Result<size_t> pread_full(int fd, void* data, size_t size, uint64_t offset, std::string_view what) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = ::pread(fd, static_cast<char*>(data) + done, size - done, off_t(offset + done));
    if (n == 0) break;
    if (n > 0) {
      done += size_t(n);
    } else if (errno != EINTR) {
      return fail_errno(fmt::format("read {}", what));
    }
  }
  return done;
}

Result<void> pwrite_full(int fd, const void* data, size_t size, uint64_t offset,
                         std::string_view what) {
  size_t done = 0;
  while (done < size) {
    ssize_t n =
        ::pwrite(fd, static_cast<const char*>(data) + done, size - done, off_t(offset + done));
    if (n >= 0) {
      done += size_t(n);
    } else if (errno != EINTR) {
      return fail_errno(fmt::format("write {}", what));
    }
  }
  return {};
}

namespace {

// struct file_handle with room for the largest handle that is accepted.
struct KernelHandle {
  struct file_handle head;
  uint8_t bytes[FileHandle::kMaxBytes];
};

}  // namespace

int identify(int dir, const char* name, struct statx& attributes, FileHandle& handle) {
  const int flags = *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
  if (::statx(dir, name, flags | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_BTIME,
              &attributes) != 0) {
    return -errno;
  }
  KernelHandle kernel;
  kernel.head.handle_bytes = FileHandle::kMaxBytes;
  int mount_id;
  if (::name_to_handle_at(dir, name, &kernel.head, &mount_id, *name ? 0 : AT_EMPTY_PATH) != 0) {
    return -errno;
  }
  handle.type = kernel.head.handle_type;
  handle.size = static_cast<uint8_t>(kernel.head.handle_bytes);
  std::memcpy(handle.bytes.data(), kernel.head.f_handle, handle.size);
  return 0;
}

FileId file_id(const struct statx& a) {
  uint64_t birth = (a.stx_mask & STATX_BTIME)
                       ? uint64_t(a.stx_btime.tv_sec) * 1'000'000'000 + a.stx_btime.tv_nsec
                       : 0;
  return {a.stx_ino, birth};
}

int open_handle(int mount_fd, const FileHandle& handle, int flags) {
  KernelHandle kernel;
  kernel.head.handle_bytes = handle.size;
  kernel.head.handle_type = handle.type;
  std::memcpy(kernel.head.f_handle, handle.bytes.data(), handle.size);
  int fd = ::open_by_handle_at(mount_fd, &kernel.head, flags | O_CLOEXEC);
  return fd >= 0 ? fd : -errno;
}

}  // namespace epochfs
