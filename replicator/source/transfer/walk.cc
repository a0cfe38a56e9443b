#include "replicator/source/transfer/walk.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "journal/base/directory.h"

namespace epochfs::replicator {
namespace {

uint64_t device_of(const struct statx& a) {
  return uint64_t(a.stx_dev_major) << 32 | a.stx_dev_minor;
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
  const int opened = open_handle(reader_.backing_dir(), d.handle, O_RDONLY | O_DIRECTORY);
  if (opened == -ESTALE || opened == -ENOENT) return {};
  if (opened < 0) return fail(fmt::format("open directory inode {}", d.id.inode), -opened);
  const UniqueFd dir(opened);
  bool has_entries = false;
  auto read = for_each_entry(dir.get(), fmt::format("inode {}", d.id.inode), [&](const char* name) {
    has_entries = true;
    return entry(d.id, dir.get(), name);
  });
  // A directory that was removed meanwhile is empty.
  const bool removed = !read && !has_entries && read.error().code == ENOENT;
  if (!read && !removed) return read;
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
    const UniqueFd dir(
        ::openat(directory, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir) continue;
    // An estimate: what cannot be read counts for nothing.
    [[maybe_unused]] auto read = for_each_entry(dir.get(), path, [&](const char* name) {
      if (::fstatat(dir.get(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) return;
      if (st.st_dev != root.st_dev) return;
      work += Sender::work_of(S_ISREG(st.st_mode) ? uint64_t(st.st_size) : 0);
      if (S_ISDIR(st.st_mode)) pending.push_back(path + "/" + name);
    });
  }
  return work;
}

}  // namespace epochfs::replicator
