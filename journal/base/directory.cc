#include "journal/base/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <memory>

namespace epochfs {

Result<UniqueFd> open_directory(int dir, const std::string& name) {
  // A link may lead out of the folder. O_DIRECTORY alone keeps a FIFO from being waited for.
  UniqueFd fd(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && (errno == ENOTDIR || errno == ELOOP)) {
    return fail("open directory " + name, ENOTDIR, ExitStatus::kCorrupt);
  }
  if (!fd) return fail_errno("open directory " + name);
  return fd;
}

Result<void> walk_entries(int dir, std::string_view what,
                          Result<void> (*f)(void* context, const char* name), void* context) {
  // An open file description of its own, so that the caller's read position is not shared.
  UniqueFd fd(::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(fmt::format("open directory {}", what));
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.get()), ::closedir);
  if (!stream) return fail_errno(fmt::format("read directory {}", what));
  fd.release();
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry && errno != 0) return fail_errno(fmt::format("read directory {}", what));
    if (!entry) return {};
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") EPOCHFS_DO(f(context, entry->d_name));
  }
}

}  // namespace epochfs
