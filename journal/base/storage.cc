#include "journal/base/storage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "journal/base/unix.h"

namespace epochfs {

Result<void> Storage::allocate(const char*, int fd, uint64_t size, std::string_view what) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return fail_errno(fmt::format("look at {}", what));
  if (int code = ::posix_fallocate(fd, 0, off_t(size))) {
    return fail(fmt::format("allocate {} bytes for {}", size, what), code);
  }
  const std::vector<std::byte> zeros(1 << 20);
  for (uint64_t at = uint64_t(st.st_size); at < size;) {
    const uint64_t length = std::min<uint64_t>(zeros.size(), size - at);
    EPOCHFS_DO(pwrite_full(fd, zeros.data(), length, at, what));
    at += length;
  }
  return {};
}

Result<void> Storage::sync_data(const char*, int fd, std::string_view what) {
  if (::fdatasync(fd) != 0) return fail_errno(fmt::format("sync {}", what));
  return {};
}

Result<void> Storage::sync_directory(const char*, int dir, std::string_view what) {
  if (::fsync(dir) != 0) return fail_errno(fmt::format("sync directory {}", what));
  return {};
}

Result<void> Storage::sync_filesystem(const char*, int fd, std::string_view what) {
  if (::syncfs(fd) != 0) return fail_errno(fmt::format("sync file system of {}", what));
  return {};
}

Result<void> Storage::replace_file(const char* label, int dir, const std::string& name,
                                   std::string_view bytes) {
  const std::string temporary = name + ".new";
  UniqueFd fd(::openat(dir, temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("create " + temporary);
  EPOCHFS_DO(pwrite_full(fd.get(), bytes.data(), bytes.size(), 0, temporary));
  return Storage::publish_file(label, dir, fd.get(), temporary, name);
}

Result<void> Storage::publish_file(const char*, int dir, int fd, const std::string& temporary,
                                   const std::string& name) {
  if (::fsync(fd) != 0) return fail_errno("sync " + temporary);
  if (::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0) {
    return fail_errno("rename " + temporary);
  }
  if (::fsync(dir) != 0) return fail_errno("sync directory of " + name);
  return {};
}

Result<void> Storage::remove_file(const char*, int dir, const std::string& name) {
  if (::unlinkat(dir, name.c_str(), 0) != 0 && errno != ENOENT) return fail_errno("remove " + name);
  if (::fsync(dir) != 0) return fail_errno("sync directory of " + name);
  return {};
}

Storage& Storage::system() {
  static Storage storage;  // stateless
  return storage;
}

}  // namespace epochfs
