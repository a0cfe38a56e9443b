#include "fs/nodes/backing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <filesystem>

#include "fs/base/privileges.h"

namespace epochfs::fs {
namespace {

// A copy of the mount that no path leads to. Private: otherwise it would get copies of what is
// mounted on the original from now on, including our own mount.
UniqueFd clone_mount(const std::string& path) {
  UniqueFd tree(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  mount_attr attributes{};
  attributes.propagation = MS_PRIVATE;
  if (!tree) return tree;
  int done = ::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes);
  return done == 0 ? std::move(tree) : UniqueFd();
}

Result<UniqueFd> open_root(const std::string& path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return fail_errno("open directory " + path);
  if (!S_ISDIR(st.st_mode)) return fail(path + " is not a directory; name one", ENOTDIR);
  // Making the copy takes root. A descriptor from before our own mount leads beneath it, too.
  UniqueFd tree;
  if (is_privileged()) {
    tree = clone_mount(path);
    if (!tree) return fail_errno("make a private copy of the mount of " + path);
  }
  UniqueFd root(tree ? ::openat(tree.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                     : ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open directory " + path);
  return root;
}

// A mount by root opens everything by handle later, so try it now.
Result<void> check_handles(const std::string& path, int root, struct statx& a, FileHandle& handle) {
  const std::string remedy =
      "its file system cannot open files by handle; use a directory on ext4, XFS or btrfs";
  int error = identify(root, "", a, handle);
  if (error != 0) return fail(fmt::format("mount {}: {}", path, remedy), -error);
  if (!is_privileged()) return {};  // it never opens by handle
  UniqueFd again(open_handle(root, handle, O_PATH));
  if (!again) return fail(fmt::format("mount {}: {}", path, remedy), -again.get());
  return {};
}

}  // namespace

Result<Backing> open_backing(const std::string& path) {
  Backing backing;
  backing.path = path;
  EPOCHFS_TRY(UniqueFd root, open_root(path));
  struct statfs fs;
  if (::fstatfs(root.get(), &fs) != 0) return fail_errno("statfs " + path);
  if (fs.f_type == FUSE_SUPER_MAGIC) {
    return fail(
        fmt::format("mount {}: it is on a FUSE file system, whose file handles do not "
                    "last; use a directory on ext4, XFS or btrfs",
                    path));
  }
  struct statx a;
  EPOCHFS_DO(check_handles(path, root.get(), a, backing.root.handle));
  struct statvfs mount;
  if (::fstatvfs(root.get(), &mount) != 0) return fail_errno("statfs " + path);
  backing.flags = mount.f_flag;
  backing.root.id = file_id(a);
  backing.root.type = S_IFDIR;
  backing.root.path = share(std::move(root));
  return backing;
}

bool lies_within(const std::string& path, int dir) {
  struct stat root, at;
  if (::fstat(dir, &root) != 0) return false;
  std::error_code ignored;
  std::filesystem::path p = std::filesystem::weakly_canonical(path, ignored);
  if (ignored) return false;
  for (;; p = p.parent_path()) {
    if (::stat(p.c_str(), &at) == 0 && at.st_dev == root.st_dev && at.st_ino == root.st_ino) {
      return true;
    }
    if (p == p.parent_path()) return false;
  }
}

}  // namespace epochfs::fs
