#include "replicator/target/apply/old_tree.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "journal/preimages/attributes.h"

namespace epochfs::replicator {

Result<Directory> open_subdirectory(int dir, const std::string& name, FileId id,
                                    DirectoryCache& cache) {
  int fd = open_beneath(dir, name.c_str(), O_PATH | O_DIRECTORY);
  if (fd >= 0) return cache.insert(id, UniqueFd(fd));
  if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) return Directory();
  if (fd == -EXDEV) {
    return fail(
        fmt::format("open directory {}: a file system is mounted there, inside the target "
                    "directory; unmount it",
                    escape(name)));
  }
  return fail("open directory " + escape(name), -fd);
}

// Climbs to the nearest directory that can be opened directly. `trail`: the way back down.
Result<Directory> OldTree::start(FileId& id, FileId root,
                                 std::vector<std::pair<FileId, std::string>>& trail) {
  for (;;) {
    if (Directory known = cache_.find(id)) return known;
    if (id == root) {
      int fd = ::openat(folders_.root.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0) return fail_errno("open target directory " + folders_.path);
      return cache_.insert(id, UniqueFd(fd));
    }
    if (may_have_moved_) {
      EPOCHFS_TRY(bool moved, may_have_moved_(id));
      if (moved) {
        EPOCHFS_TRY(auto limbo,
                    open_subdirectory(folders_.limbo.get(), stage_name(id), id, cache_));
        if (limbo) return limbo;
      }
    }
    EPOCHFS_TRY(auto links, index_.links(id));
    if (links.empty()) return Directory();
    trail.emplace_back(id, links.front().name);
    id = links.front().parent;
  }
}

Result<Directory> OldTree::directory(FileId id, FileId root) {
  std::vector<std::pair<FileId, std::string>> trail;
  EPOCHFS_TRY(Directory at, start(id, root, trail));
  for (; at && !trail.empty(); trail.pop_back()) {
    EPOCHFS_TRY(at, open_subdirectory(at->get(), trail.back().second, trail.back().first, cache_));
  }
  return at;
}

Result<std::optional<struct stat>> OldTree::stat(const EntryName& entry, FileId root) {
  EPOCHFS_TRY(Directory parent, directory(entry.parent, root));
  if (!parent) return std::nullopt;
  struct stat s;
  int code = stat_beneath(parent->get(), entry.name.c_str(), s);
  if (code == -ENOENT || code == -ENOTDIR) return std::nullopt;
  if (code != 0) return fail("stat " + escape(entry.name), -code);
  return s;
}

Result<bool> OldTree::is_intact(FileId id, const IndexedNode& node, FileId root) {
  EPOCHFS_TRY(auto links, index_.links(id));
  for (const EntryName& entry : links) {
    EPOCHFS_TRY(auto s, stat(entry, root));
    if (!s || s->st_ino != node.target_inode || (s->st_mode & S_IFMT) != (node.mode & S_IFMT)) {
      return false;
    }
    const Timestamp mtime{s->st_mtim.tv_sec, s->st_mtim.tv_nsec};
    const bool same = uint64_t(s->st_size) == node.size && mtime == node.target_mtime;
    if (journal::is_regular(node.mode) && !same) return false;
  }
  return !links.empty();
}

}  // namespace epochfs::replicator
