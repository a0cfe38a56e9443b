#include "fs/recording/shared_mappings.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <span>

#include "fs/base/privileges.h"
#include "journal/base/unix.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {
namespace {

constexpr size_t kFilesAtOnce = 64;  // descriptors open at a time

// Builds the handle that the kernel's FUSE gives a node in name_to_handle_at(2).
int open_node(int root, uint64_t node) {
  constexpr int kInode64AndGeneration = 0x81;  // FILEID_INO64_GEN
  const uint32_t words[3] = {uint32_t(node >> 32), uint32_t(node), 0};
  FileHandle handle;
  handle.type = kInode64AndGeneration;
  handle.size = sizeof words;
  std::memcpy(handle.bytes.data(), words, sizeof words);
  return open_handle(root, handle, O_RDONLY | O_NOATIME | O_NONBLOCK);
}

// Before 6.16 the kernel copied dirty pages of FUSE aside and counted them as written. Only fsync
// waited for the copies.
bool waits_for_pages() {
  utsname name{};
  int major = 0, minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  return major > 6 || (major == 6 && minor >= 16);
}

// A way into the mount that does not keep it from being unmounted.
Result<UniqueFd> open_root(const std::string& mountpoint, const std::string& journal) {
  UniqueFd tree(int(
      ::syscall(SYS_open_tree, AT_FDCWD, mountpoint.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree) return fail_errno("look into mount " + mountpoint);
  UniqueFd root(::openat(tree.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open mount " + mountpoint);
  char found[PATH_MAX];
  ssize_t size = ::fgetxattr(root.get(), journal::kJournalXattr, found, sizeof found);
  if (size < 0 || std::string_view(found, size_t(size)) != journal) {
    return fail(
        fmt::format("flush mapped pages of {}: something else is mounted there", mountpoint));
  }
  return root;
}

// Without root, files cannot be opened by handle. The kernel starts to write all that is dirty.
Result<void> flush_all(const std::string& mountpoint) {
  EPOCHFS_TRY(UniqueFd root, open_directory(mountpoint));
  if (::syncfs(root.get()) != 0) return fail_errno("flush mapped pages of " + mountpoint);
  return {};
}

Result<void> flush_nodes(int root, std::span<const uint64_t> nodes) {
  static const bool waits = waits_for_pages();
  std::vector<UniqueFd> files;
  for (uint64_t node : nodes) {
    const int fd = open_node(root, node);
    // The kernel has forgotten the node: the file was closed meanwhile, and its pages were sent.
    if (fd == -ESTALE || fd == -ENOENT) continue;
    if (fd < 0) return fail("cut epoch: open a file to flush its mapped pages", -fd);
    files.emplace_back(fd);
  }
  for (const UniqueFd& file : files) {
    ::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  for (const UniqueFd& file : files) {
    if (waits) {
      ::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE_AND_WAIT);
    } else {
      ::fdatasync(file.get());
    }
  }
  return {};
}

}  // namespace

void SharedMappings::opened(uint64_t node) {
  Lock lock(mutex_);
  ++opens_[node];
}

void SharedMappings::closed(uint64_t node) {
  Lock lock(mutex_);
  auto entry = opens_.find(node);
  EPOCHFS_CHECK(entry != opens_.end());
  if (--entry->second == 0) opens_.erase(entry);
}

size_t SharedMappings::nodes() const {
  Lock lock(mutex_);
  return opens_.size();
}

std::vector<uint64_t> SharedMappings::list() const {
  Lock lock(mutex_);
  std::vector<uint64_t> out;
  out.reserve(opens_.size());
  for (const auto& [node, opens] : opens_) out.push_back(node);
  return out;
}

Result<void> SharedMappings::flush(const std::string& mountpoint, const std::string& journal) {
#ifdef EPOCHFS_WITHOUT_FLUSH  // with this, tests prove that they notice a missing flush
  return {};
#endif
  const std::vector<uint64_t> nodes = list();
  if (nodes.empty()) return {};
  if (!is_privileged()) return flush_all(mountpoint);
  EPOCHFS_TRY(UniqueFd root, open_root(mountpoint, journal));
  for (size_t at = 0; at < nodes.size(); at += kFilesAtOnce) {
    EPOCHFS_DO(flush_nodes(
        root.get(), std::span(nodes).subspan(at, std::min(kFilesAtOnce, nodes.size() - at))));
  }
  return {};
}

}  // namespace epochfs::fs
