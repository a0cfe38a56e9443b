#include "journal/base/regular_file.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace epochfs {
namespace {

const char* kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR: return "a directory";
    case S_IFLNK: return "a symbolic link";
    case S_IFIFO: return "a FIFO";
    case S_IFSOCK: return "a socket";
    default: return "a device";
  }
}

Result<void> check_regular(const struct stat& st, const std::string& name) {
  if (S_ISREG(st.st_mode)) return {};
  return fail(fmt::format("open {}: it is {} instead of a regular file", name, kind_of(st.st_mode)),
              0, ExitStatus::kCorrupt);
}

}  // namespace

Result<UniqueFd> open_regular(int dir, const std::string& name) {
  // Looked at before it is opened: opening a device can already do something.
  struct stat st;
  if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return fail_errno("open " + name);
  }
  EPOCHFS_DO(check_regular(st, name));
  UniqueFd fd(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno("open " + name);
  // Somebody may have put another one in its place meanwhile.
  if (::fstat(fd.get(), &st) != 0) return fail_errno("stat " + name);
  EPOCHFS_DO(check_regular(st, name));
  return fd;
}

}  // namespace epochfs
