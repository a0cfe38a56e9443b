#include "fs/operations/filesystem.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "fs/base/privileges.h"

namespace epochfs::fs {
namespace {

int find_descriptor_limit() {
  rlimit limit{};
  EPOCHFS_CHECK(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  return int(std::min<rlim_t>(limit.rlim_cur, INT32_MAX));
}

// Mostly of directories on the way to files in use. Most of what the process may open is for the
// applications' open files.
size_t cached_descriptors() { return std::min(size_t(find_descriptor_limit()) / 8, size_t(8192)); }

// Whether the kernel may hold pages that were written through this open and not sent yet.
bool may_dirty_pages(const Filesystem& fs, const OpenFile& file) {
  const int access = file.flags & O_ACCMODE;
  return access == O_RDWR || (fs.options.writeback && access == O_WRONLY);
}

}  // namespace

Filesystem::Filesystem(Inode root, std::string path, Recorder& r, const MountOptions& o)
    : options(o),
      backing(::fcntl(root.fd(), F_DUPFD_CLOEXEC, 3)),
      by_descriptor(!is_privileged()),
      descriptor_limit(find_descriptor_limit()),
      journal_path(std::move(path)),
      recorder(r),
      workers(r),
      inodes(std::move(root), cached_descriptors(), by_descriptor),
      idle_latency(options.wakeup) {
  EPOCHFS_CHECK(backing);
  struct statx a;
  EPOCHFS_CHECK(attributes_of(backing.get(), a) == 0);
  device = makedev(a.stx_dev_major, a.stx_dev_minor);
}

struct stat to_stat(const struct statx& a) {
  auto time = [](const struct statx_timestamp& t) {
    return timespec{.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
  };
  struct stat st {};
  st.st_dev = makedev(a.stx_dev_major, a.stx_dev_minor);
  st.st_ino = a.stx_ino;
  st.st_mode = a.stx_mode;
  st.st_nlink = a.stx_nlink;
  st.st_uid = a.stx_uid;
  st.st_gid = a.stx_gid;
  st.st_rdev = makedev(a.stx_rdev_major, a.stx_rdev_minor);
  st.st_size = off_t(a.stx_size);
  st.st_blksize = blksize_t(a.stx_blksize);
  st.st_blocks = blkcnt_t(a.stx_blocks);
  st.st_atim = time(a.stx_atime);
  st.st_mtim = time(a.stx_mtime);
  st.st_ctim = time(a.stx_ctime);
  return st;
}

int attributes_of(int fd, struct statx& out) {
  return ::statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_BTIME,
                 &out) == 0
             ? 0
             : -errno;
}

int check_device(const Filesystem& fs, const struct statx& a) {
  return makedev(a.stx_dev_major, a.stx_dev_minor) == fs.device ? 0 : -EXDEV;
}

int path_to_keep(fuse_req_t req, int dir, const char* name, SharedFd& path) {
  if (!filesystem(req).by_descriptor) return 0;
  UniqueFd fd(*name ? ::openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
                    : ::open(proc_path(dir).c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return -errno;
  if (is_reserved(req, fd)) return -ENFILE;
  path = share(std::move(fd));
  return 0;
}

fuse_entry_param make_entry(Filesystem& fs, const struct statx& a, const FileHandle& handle,
                            SharedFd path) {
  fuse_entry_param entry{};
  entry.ino = fs.inodes.add({.id = file_id(a),
                             .handle = handle,
                             .type = uint32_t(a.stx_mode & S_IFMT),
                             .path = std::move(path)});
  entry.attr = to_stat(a);
  entry.attr_timeout = kCacheSeconds;
  entry.entry_timeout = kCacheSeconds;
  return entry;
}

void reply_entry(fuse_req_t req, const fuse_entry_param& entry) {
  Filesystem& fs = filesystem(req);
  if (fuse_reply_entry(req, &entry) == -ENOENT) fs.inodes.forget(entry.ino, 1);
}

void reply_open(fuse_req_t req, std::unique_ptr<OpenFile> file, fuse_file_info* fi,
                const fuse_entry_param* entry) {
  Filesystem& fs = filesystem(req);
  if (is_reserved(req, file->fd)) {
    if (entry) fs.inodes.forget(entry->ino, 1);
    return reply(req, -ENFILE);
  }
  if (may_dirty_pages(fs, *file)) fs.shared_mappings.opened(file->node);
  fi->fh = fs.files.add(std::move(file));
  fi->keep_cache = 1;  // only the mount changes the file
  fi->noflush = 1;     // close(2) has nothing to tell us
  int sent = entry ? fuse_reply_create(req, entry, fi) : fuse_reply_open(req, fi);
  if (sent != -ENOENT) return;
  // Interrupted: the kernel will send neither RELEASE nor FORGET.
  close_file(fs, fi->fh);
  if (entry) fs.inodes.forget(entry->ino, 1);
}

bool is_reserved(fuse_req_t req, const UniqueFd& fd) {
  const int limit = filesystem(req).descriptor_limit;
  if (fd.get() < limit - std::min(limit / 4, 256)) return false;
  // Our own threads open files of the mount when they flush mapped pages.
  return ::access(fmt::format("/proc/self/task/{}", fuse_req_ctx(req)->pid).c_str(), F_OK) != 0;
}

void close_file(Filesystem& fs, uint64_t handle) {
  auto file = fs.files.take(handle);
  if (file && may_dirty_pages(fs, *file)) fs.shared_mappings.closed(file->node);
}

Caller caller_of(fuse_req_t req) {
  const fuse_ctx* caller = fuse_req_ctx(req);
  return {.uid = caller->uid, .gid = caller->gid, .pid = uint32_t(caller->pid)};
}

journal::Record make_intent(fuse_req_t req, journal::RecordType type) {
  journal::Record record;
  record.type = type;
  record.caller = caller_of(req);
  return record;
}

std::vector<gid_t> groups_for_set_id(fuse_req_t req, int fd, bool ordinary) {
  struct statx a;
  if (!ordinary || attributes_of(fd, a) != 0 || !(a.stx_mode & (S_ISUID | S_ISGID))) return {};
  std::vector<gid_t> groups(1 + 64);
  int n = fuse_req_getgroups(req, int(groups.size()) - 1, groups.data() + 1);
  if (n > int(groups.size()) - 1) {
    groups.resize(1 + size_t(n));
    n = fuse_req_getgroups(req, n, groups.data() + 1);
  }
  groups.resize(1 + size_t(std::clamp(n, 0, int(groups.size()) - 1)));
  groups[0] = fuse_req_ctx(req)->gid;
  return groups;
}

int make_durable(Filesystem& fs, int fd, bool data_only) {
  // The journal first, so that no durable change is unrecorded. Its failure is not reported to the
  // application: if the machine stops now, relationships reconcile.
  (void)fs.recorder.sync();
  int result = data_only ? ::fdatasync(fd) : ::fsync(fd);
  return result == 0 ? 0 : -errno;
}

int backing_flags(const Filesystem& fs, int flags) {
  // To gather parts of a page, the kernel has to read the rest of it.
  if (fs.options.writeback && (flags & O_ACCMODE) == O_WRONLY) {
    flags = (flags & ~O_ACCMODE) | O_RDWR;
  }
  // The kernel has already handled creation, truncation and appending (it sends offsets). Direct
  // I/O would need aligned buffers. After a synchronous write the kernel sends an fsync, which
  // makes the journal record durable, too.
  return (flags & (O_ACCMODE | O_NOATIME)) | O_CLOEXEC | O_NOFOLLOW;
}

}  // namespace epochfs::fs
