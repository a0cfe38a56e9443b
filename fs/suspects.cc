#include "fs/suspects.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "journal/unix.h"

namespace epochfs {
namespace {

// chmod(2) refuses a file that is immutable or append-only; its flags can be set anew.
int set_same_flags(int path_fd) {
  UniqueFd fd(::open(proc_path(path_fd).c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
  int flags = 0;
  if (!fd || ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return -1;
  return ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags);
}

}  // namespace

Result<bool> give_new_ctime(int backing_dir, const FileId& file, const FileHandle& handle) {
  UniqueFd fd(open_handle(backing_dir, handle, O_PATH | O_NOFOLLOW));
  if (fd.get() == -ESTALE || fd.get() == -ENOENT) return false;
  const std::string what = fmt::format("give inode {} a new ctime", file.inode);
  if (!fd) return fail(what, -fd.get());
  struct statx now;
  FileHandle unused;
  if (int error = identify(fd.get(), "", now, unused); error != 0) return fail(what, -error);
  if (file_id(now) != file || !S_ISREG(now.stx_mode)) return false;
  // The mode that it has: file systems move ctime all the same.
  if (::chmod(proc_path(fd.get()).c_str(), now.stx_mode & 07777) == 0) return true;
  if (errno == EPERM && set_same_flags(fd.get()) == 0) return true;
  return fail_errno(what);
}

}  // namespace epochfs
