#include "replicator/target/directory/beneath.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include <atomic>

namespace epochfs::replicator {
namespace {

constexpr int kMaxDepth = 24;  // a removal holds two descriptors a level

// The system call filter of a container may refuse openat2. Then O_NOFOLLOW still refuses
// symbolic links, but a mount point would be crossed.
int plain_open(int dir, const char* name, int flags, mode_t mode) {
  int fd = ::openat(dir, name, flags, mode);
  return fd >= 0 ? fd : -errno;
}

// One removal of everything in a directory.
class Removal {
 public:
  Removal(int top, std::string_view what) : top_(top), what_(what) {}

  Result<void> run() { return empty(top_, 0); }

 private:
  Result<void> empty(int dir, int depth) {
    // Removing entries while a directory is read may hide others from the reader. Deep
    // directories are moved up and must be removed, too.
    for (bool found = true; found;) {
      found = false;
      EPOCHFS_DO(for_each_entry(dir, what_, [&](const char* name) {
        found = true;
        return remove(dir, name, depth);
      }));
    }
    return {};
  }

  Result<void> remove(int dir, const char* name, int depth) {
    if (::unlinkat(dir, name, 0) == 0 || errno == ENOENT) return {};
    if (errno != EISDIR) return failed(name);
    if (::unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
    if (errno != ENOTEMPTY && errno != EEXIST) return failed(name);
    if (depth >= kMaxDepth) return move_up(dir, name);
    UniqueFd child(open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (child.get() < 0) {
      errno = -child.get();
      return failed(name);
    }
    EPOCHFS_DO(empty(child.get(), depth + 1));
    child.reset();
    if (::unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT) return failed(name);
    return {};
  }

  Result<void> move_up(int dir, const char* name) {
    for (;;) {
      std::string to = fmt::format("deep-{}", counter_++);
      if (::renameat(dir, name, top_, to.c_str()) == 0) break;
      if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) return failed(name);
    }
    return {};
  }

  tl::unexpected<Error> failed(const char* name) {
    return fail_errno(fmt::format("remove {} in {}", escape(name), what_));
  }

  int top_;
  std::string_view what_;
  uint64_t counter_ = 0;
};

}  // namespace

int open_beneath(int dir, const char* name, int flags, mode_t mode) {
  static std::atomic<bool> known = true;
  flags |= O_NOFOLLOW | O_CLOEXEC;
  if (!known.load(std::memory_order_relaxed)) return plain_open(dir, name, flags, mode);
  struct open_how how = {};
  how.flags = uint64_t(unsigned(flags));
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  for (;;) {
    long fd = ::syscall(SYS_openat2, dir, name, &how, sizeof how);
    if (fd >= 0) return int(fd);
    if (errno == EAGAIN || errno == EINTR) continue;
    if (errno != ENOSYS) return -errno;
    known = false;
    return plain_open(dir, name, flags, mode);
  }
}

int stat_beneath(int dir, const char* name, struct stat& out) {
  return ::fstatat(dir, name, &out, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 ? 0 : -errno;
}

Directory DirectoryCache::find(FileId id) {
  auto at = by_id_.find(id);
  if (at == by_id_.end()) return nullptr;
  order_.splice(order_.begin(), order_, at->second);
  return at->second->second;
}

Directory DirectoryCache::insert(FileId id, UniqueFd fd) {
  auto directory = std::make_shared<const UniqueFd>(std::move(fd));
  if (auto at = by_id_.find(id); at != by_id_.end()) {
    order_.erase(at->second);
    by_id_.erase(at);
  }
  order_.emplace_front(id, directory);
  by_id_[id] = order_.begin();
  if (order_.size() > capacity_) {
    by_id_.erase(order_.back().first);
    order_.pop_back();
  }
  return directory;
}

void DirectoryCache::clear() {
  by_id_.clear();
  order_.clear();
}

Result<void> empty_directory(int dir, std::string_view what) { return Removal(dir, what).run(); }

}  // namespace epochfs::replicator
