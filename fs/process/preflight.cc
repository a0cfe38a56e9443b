#include "fs/process/preflight.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <sstream>

#include "fs/base/mounts.h"
#include "fs/base/privileges.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {
namespace {

// A process that was killed leaves its mount behind, which no longer answers.
Result<void> clear_stale_mounts(const std::string& path) {
  for (;;) {
    EPOCHFS_TRY(auto mount, mount_at(path));
    if (!mount || mount->type != kMountType) return {};
    auto journal = journal::journal_path_of(path);
    if (journal || !says_mount_is_gone(journal.error().code)) return {};
    if (int error = unmount_path(path, true); error != 0) {
      return fail("clear the stale mount of " + path, -error);
    }
  }
}

// The process that holds a lock on an open file; 0: unknown. A line of /proc/locks reads
// "1: FLOCK  ADVISORY  WRITE 9573 fe:00:1130498 0 EOF".
int flock_holder(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return 0;
  const std::string file =
      fmt::format("{:02x}:{:02x}:{}", major(st.st_dev), minor(st.st_dev), st.st_ino);
  std::ifstream in("/proc/locks");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string number, kind, strength, access, where;
    int pid = 0;
    if (words >> number >> kind >> strength >> access >> pid >> where && kind == "FLOCK" &&
        where == file) {
      return pid;
    }
  }
  return 0;
}

}  // namespace

Error already_mounted(const std::string& dir, int pid) {
  const std::string by = pid > 0 ? fmt::format(" by process {}", pid) : "";
  return {.what = fmt::format("mount {}: it is already mounted{}; unmount it first with: epochfs "
                              "unmount {}",
                              dir, by, dir)};
}

Result<void> check_machine(const std::string& dir) {
  if (!is_privileged()) {
    if (::geteuid() != 0) return {};  // fusermount3 opens the device and mounts
    return fail(fmt::format("mount {}: root lacks CAP_SYS_ADMIN or CAP_DAC_READ_SEARCH here; run "
                            "it outside of the container",
                            dir),
                EPERM);
  }
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) {
    return fail_errno("open /dev/fuse; load the kernel's module with: modprobe fuse");
  }
  return {};
}

Result<std::string> existing_directory(const std::string& given) {
  auto path = canonical_path(given);
  if (!path) {
    return fail(fmt::format("mount {}: there is no such directory; make it first", given),
                path.error().code);
  }
  EPOCHFS_DO(clear_stale_mounts(*path));
  struct stat st;
  if (::stat(path->c_str(), &st) != 0) return fail_errno("mount " + *path);
  if (!S_ISDIR(st.st_mode)) {
    return fail(fmt::format("mount {}: it is not a directory; name one", given), ENOTDIR);
  }
  return *path;
}

Result<void> check_not_mounted(const std::string& path) {
  auto journal = journal::journal_path_of(path);
  EPOCHFS_TRY(auto mount, mount_at(path));
  if (!journal || !mount || mount->type != kMountType) return {};
  auto volume = journal::Volume::open(*journal);
  auto pid = volume ? volume->holder() : Result<int>(0);
  return tl::unexpected(already_mounted(path, pid ? *pid : 0));
}

Result<void> check_outside(const std::string& what, const std::string& path, const Backing& backing,
                           const std::string& mountpoint) {
  EPOCHFS_TRY(UniqueFd dir, open_directory(mountpoint));
  if (!lies_within(path, backing.root.fd()) && !lies_within(path, dir.get())) return {};
  return fail(fmt::format("mount {}: {} {} lies inside of it; name another place with --{}",
                          mountpoint, what, path, what));
}

Result<UniqueFd> lock_directory(const Backing& backing, const std::string& mountpoint) {
  EPOCHFS_TRY(UniqueFd dir, open_directory(proc_path(backing.root.fd())));
  if (::flock(dir.get(), LOCK_EX | LOCK_NB) != 0) {
    return tl::unexpected(already_mounted(mountpoint, flock_holder(dir.get())));
  }
  return dir;
}

}  // namespace epochfs::fs
