#include "fs/housekeeping/suspects.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cstring>
#include <memory>
#include <vector>

#include "journal/base/directory.h"
#include "journal/base/unix.h"

namespace epochfs::fs {
namespace {

// chmod(2) refuses a file that is immutable or append-only. Setting its own flags anew works.
int set_same_flags(int path_fd) {
  UniqueFd fd(::open(proc_path(path_fd).c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
  int flags = 0;
  if (!fd || ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return -1;
  return ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags);
}

// Sets the mode that the file has: file systems move the ctime all the same.
int move_ctime(int path_fd, mode_t mode) {
  if (::chmod(proc_path(path_fd).c_str(), mode & 07777) == 0) return 0;
  return errno == EPERM ? set_same_flags(path_fd) : -1;
}

// Handles one entry of a directory. Directories go to `pending`. 0 or -errno.
int move_ctime_of(int dir, const char* name, const struct statx& root,
                  std::vector<FileHandle>& pending) {
  struct statx a;
  FileHandle handle;
  if (int error = identify(dir, name, a, handle); error != 0) return error;
  if (a.stx_dev_major != root.stx_dev_major || a.stx_dev_minor != root.stx_dev_minor) return 0;
  if (S_ISDIR(a.stx_mode)) pending.push_back(handle);
  if (!S_ISREG(a.stx_mode)) return 0;
  UniqueFd fd(::openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return fd && move_ctime(fd.get(), a.stx_mode) == 0 ? 0 : -errno;
}

Result<void> move_ctimes_in(const UniqueFd& dir, const struct statx& root,
                            std::vector<FileHandle>& pending) {
  // One file that cannot be changed does not keep the others from it.
  Result<void> outcome;
  EPOCHFS_DO(for_each_entry(dir.get(), "below the backing directory", [&](const char* name) {
    const int error = move_ctime_of(dir.get(), name, root, pending);
    if (error != 0 && outcome) {
      outcome = fail(fmt::format("give {} a new ctime", escape(name)), -error);
    }
  }));
  return outcome;
}

}  // namespace

Result<bool> give_all_new_ctimes(int backing_dir) {
  struct statx root;
  FileHandle handle;
  if (int error = identify(backing_dir, "", root, handle); error != 0) {
    return fail("identify the backing directory", -error);
  }
  std::vector<FileHandle> pending{handle};
  Result<void> outcome;
  while (!pending.empty()) {
    UniqueFd dir(open_handle(backing_dir, pending.back(), O_RDONLY | O_DIRECTORY));
    pending.pop_back();
    auto done = dir ? move_ctimes_in(dir, root, pending)
                    : Result<void>(fail("open a directory", -dir.get()));
    if (outcome) outcome = std::move(done);
  }
  if (!outcome) return tl::unexpected(outcome.error());
  return true;
}

Result<bool> give_new_ctime(int backing_dir, const FileId& file, const FileHandle& handle) {
  UniqueFd fd(open_handle(backing_dir, handle, O_PATH | O_NOFOLLOW));
  if (fd.get() == -ESTALE || fd.get() == -ENOENT) return false;
  const std::string what = fmt::format("give inode {} a new ctime", file.inode);
  if (!fd) return fail(what, -fd.get());
  struct statx now;
  FileHandle unused;
  if (int error = identify(fd.get(), "", now, unused); error != 0) return fail(what, -error);
  if (file_id(now) != file || !S_ISREG(now.stx_mode)) return false;
  if (move_ctime(fd.get(), now.stx_mode) == 0) return true;
  return fail_errno(what);
}

}  // namespace epochfs::fs
