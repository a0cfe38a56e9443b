#include "replicator/source/transfer/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>

namespace epochfs::replicator {
namespace {

using OpenDirectory = std::unique_ptr<DIR, int (*)(DIR*)>;

uint64_t device_of(const struct statx& a) {
  return uint64_t(a.stx_dev_major) << 32 | a.stx_dev_minor;
}

bool is_dot(const char* name) {
  return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
}

// Takes over the descriptor.
OpenDirectory read_directory(int fd) {
  OpenDirectory dir(fd >= 0 ? ::fdopendir(fd) : nullptr, ::closedir);
  if (!dir && fd >= 0) ::close(fd);
  return dir;
}

}  // namespace

Result<void> Walk::tree(const FileId& root, const FileHandle& handle) {
  struct statx a;
  FileHandle unused;
  if (int code = identify(reader_.backing_dir(), "", a, unused); code != 0) {
    return fail("stat backing directory", -code);
  }
  device_ = device_of(a);
  pending_.push_back({root, handle});
  while (!pending_.empty()) {
    Directory next = pending_.back();
    pending_.pop_back();
    EPOCHFS_DO(directory(next));
  }
  return {};
}

Result<void> Walk::tree_anew(const FileId& root, const FileHandle& handle) {
  auto directories = std::exchange(directories_, {});
  auto files = std::exchange(files_, {});
  auto outcome = tree(root, handle);
  directories_.merge(directories);
  files_.merge(files);
  return outcome;
}

Result<void> Walk::stray(const FileId& file, const FileHandle& handle) {
  journal::FileChange change;
  change.handle = handle;
  change.whole = true;
  EPOCHFS_TRY(bool there, sender_.file(file, change));
  if (there) files_.insert(file);
  return {};
}

Result<void> Walk::directory(const Directory& d) {
  if (!directories_.insert(d.id).second) return {};
  journal::FileChange change;
  change.handle = d.handle;
  EPOCHFS_TRY(bool there, sender_.file(d.id, change));
  if (!there) return {};
  int fd = open_handle(reader_.backing_dir(), d.handle, O_RDONLY | O_DIRECTORY);
  if (fd == -ESTALE || fd == -ENOENT) return {};
  if (fd < 0) return fail(fmt::format("open directory inode {}", d.id.inode), -fd);
  OpenDirectory dir = read_directory(fd);
  if (!dir) return fail_errno("read directory");
  for (;;) {
    errno = 0;
    dirent* e = ::readdir(dir.get());
    if (!e && errno != 0) return fail_errno(fmt::format("read directory inode {}", d.id.inode));
    if (!e) break;
    if (!is_dot(e->d_name)) EPOCHFS_DO(entry(d.id, ::dirfd(dir.get()), e->d_name));
  }
  sender_.listed(d.id);
  return {};
}

Result<void> Walk::entry(const FileId& parent, int dir, const char* name) {
  struct statx a;
  FileHandle handle;
  int code = identify(dir, name, a, handle);
  if (code == -ENOENT) return {};  // removed meanwhile
  if (code != 0) return fail(fmt::format("stat {} in inode {}", escape(name), parent.inode), -code);
  if (device_of(a) != device_) return {};
  FileId id = file_id(a);
  if (journal::is_directory(a.stx_mode)) {
    sender_.name(parent, name, id);
    pending_.push_back({id, handle});
    return {};
  }
  if (!sent(id)) {
    journal::FileChange change;
    change.handle = handle;
    change.whole = true;
    EPOCHFS_TRY(bool there, sender_.file(id, change));
    if (!there) return {};
    files_.insert(id);
  }
  sender_.name(parent, name, id);
  return {};
}

uint64_t Walk::measure(int directory) {
  uint64_t work = 0;
  struct stat root, st;
  if (::fstat(directory, &root) != 0) return 0;
  std::vector<std::string> pending{"."};
  while (!pending.empty()) {
    std::string path = std::move(pending.back());
    pending.pop_back();
    OpenDirectory dir = read_directory(
        ::openat(directory, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir) continue;
    while (dirent* e = ::readdir(dir.get())) {
      if (is_dot(e->d_name)) continue;
      if (::fstatat(::dirfd(dir.get()), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (st.st_dev != root.st_dev) continue;
      work += Sender::work_of(S_ISREG(st.st_mode) ? uint64_t(st.st_size) : 0);
      if (S_ISDIR(st.st_mode)) pending.push_back(path + "/" + e->d_name);
    }
  }
  return work;
}

}  // namespace epochfs::replicator
