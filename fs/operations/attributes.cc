// Getattr, setattr, statx, statfs: what is a file besides bytes and names?
#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

#include "fs/operations/filesystem.h"
#include "fs/operations/keep_mtime.h"

namespace epochfs::fs {
namespace {

void getattr(fuse_req_t req, fuse_ino_t node, fuse_file_info*) {
  Filesystem& fs = filesystem(req);
#if EPOCHFS_FUSE_URING
  if (node == kRootNode && fuse_req_is_uring(req)) fs.uring_seen = true;
#endif
  Inode inode;
  struct statx a;
  int error = fs.inodes.open(node, inode);
  if (error == 0) error = attributes_of(inode.fd(), a);
  if (error != 0) return reply(req, error);
  struct stat st = to_stat(a);
  fuse_reply_attr(req, &st, kCacheSeconds);
}

#if EPOCHFS_FUSE_STATX
void statx(fuse_req_t req, fuse_ino_t node, int, int, fuse_file_info*) {
  Inode inode;
  struct statx a;
  int error = filesystem(req).inodes.open(node, inode);
  if (error == 0) error = attributes_of(inode.fd(), a);
  if (error != 0) return reply(req, error);
  fuse_reply_statx(req, 0, &a, kCacheSeconds);
}
#endif

// chmod(2) by an O_PATH descriptor. 0, or -1 and errno.
int change_mode(int fd, mode_t mode) {
#ifdef SYS_fchmodat2
  constexpr long kNumber = SYS_fchmodat2;
#else
  constexpr long kNumber = 452;  // the same on every architecture
#endif
  const long result = ::syscall(kNumber, fd, "", mode, AT_EMPTY_PATH);
  // Before Linux 6.6 there is only the way through /proc, which costs twice as much.
  if (result == 0 || errno != ENOSYS) return int(result);
  return ::chmod(proc_path(fd).c_str(), mode);
}

// One setattr request, carried out step by step.
class AttributeChange {
 public:
  AttributeChange(fuse_req_t req, WorkerThread& thread, NodeId node, const Inode& inode,
                  const struct stat& wanted, int to_set, int open_fd)
      : req_(req),
        thread_(thread),
        node_(node),
        inode_(inode),
        wanted_(wanted),
        to_set_(to_set),
        open_fd_(open_fd) {}

  // 0 or -errno. The owner comes first, since changing it clears set-id bits.
  int run() {
    int error = 0;
    if (sets(FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || sets_nothing()) error = step(set_owner());
    if (error == 0 && sets(FUSE_SET_ATTR_MODE)) error = step(set_mode());
    if (error == 0 && sets(FUSE_SET_ATTR_SIZE)) error = step(set_size());
    if (error == 0 && sets(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) error = step(set_times());
    return error;
  }
  // Whether anything is, or may be, other than before.
  bool changed() const { return changed_; }

 private:
  bool sets(int bits) const { return to_set_ & bits; }
  // Two requests set nothing: chown(2) to neither a user nor a group, which still moves the ctime
  // and clears set-id bits; and the kernel's wish, before a write, to have them cleared.
  bool sets_nothing() const {
    return !sets(FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_SIZE |
                 FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME);
  }

  int step(int result) {
    if (result == 0) changed_ = true;
    return result == 0 ? 0 : -errno;
  }

  // The kernel does not check who asks for a change of nothing. A stranger's chown(2) must not
  // clear set-id bits; a stranger's write will clear them itself.
  bool is_callers() const {
    struct statx a;
    return attributes_of(inode_.fd(), a) == 0 && a.stx_uid == fuse_req_ctx(req_)->uid;
  }

  int set_owner() {
    const uid_t uid = sets(FUSE_SET_ATTR_UID) ? wanted_.st_uid : uid_t(-1);
    const gid_t gid = sets(FUSE_SET_ATTR_GID) ? wanted_.st_gid : gid_t(-1);
    // Whether a set-gid bit survives depends on the caller's groups, if at all.
    const auto groups = groups_for_set_id(req_, inode_.fd(), fuse_req_ctx(req_)->uid != 0);
    if (!groups.empty() && sets_nothing() && !is_callers()) return 0;
    WorkerThread::AsOrdinaryUser user(thread_, groups);
    return ::fchownat(inode_.fd(), "", uid, gid, AT_EMPTY_PATH);
  }

  int set_mode() {
    const mode_t mode = wanted_.st_mode & 07777;
    const int result = change_mode(inode_.fd(), mode);
    if (result == 0 && mode & (S_ISUID | S_ISGID)) ++filesystem(req_).set_id_generation;
    return result;
  }

  int set_size() {
    const bool ordinary =
        EPOCHFS_FUSE_KILLPRIV_V2 ? sets(FUSE_SET_ATTR_KILL_SUID) : fuse_req_ctx(req_)->uid != 0;
    const auto groups = groups_for_set_id(req_, inode_.fd(), ordinary);
    WorkerThread::AsOrdinaryUser user(thread_, groups);
    KeepMtime keep(filesystem(req_), node_, inode_.fd(), !sets(FUSE_SET_ATTR_MTIME));
    changed_ = true;  // even a failed truncation may have freed something
    if (open_fd_ >= 0) return ::ftruncate(open_fd_, wanted_.st_size);
    const std::string path = proc_path(inode_.fd());
    if (wanted_.st_size != 0) return ::truncate(path.c_str(), wanted_.st_size);
    // This is nearly always an open(2) with O_TRUNC. It moves the times of an empty file, too,
    // which truncate(2) does on some file systems only.
    return UniqueFd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC)) ? 0 : -1;
  }

  int set_times() {
    Filesystem& fs = filesystem(req_);
    std::optional<Lock> lock;
    if (fs.options.writeback) lock.emplace(fs.mtime_mutex(node_));
    auto time = [this](int set, int now, const timespec& wanted) {
      if (sets(now)) return timespec{0, UTIME_NOW};
      return sets(set) ? wanted : timespec{0, UTIME_OMIT};
    };
    const timespec times[2] = {
        time(FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, wanted_.st_atim),
        time(FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, wanted_.st_mtim),
    };
    return ::utimensat(inode_.fd(), "", times, AT_EMPTY_PATH);
  }

  fuse_req_t req_;
  WorkerThread& thread_;
  const NodeId node_;
  const Inode& inode_;
  const struct stat& wanted_;
  const int to_set_;
  const int open_fd_;
  bool changed_ = false;
};

// One record covers it all: a truncation counts as a change of attributes, too.
journal::Record intent_of(fuse_req_t req, const Inode& inode, const struct stat& wanted,
                          int to_set) {
  const bool truncates = to_set & FUSE_SET_ATTR_SIZE;
  journal::Record intent = make_intent(
      req, truncates ? journal::RecordType::kTruncate : journal::RecordType::kSetAttributes);
  intent.file = inode.id;
  intent.handle = inode.handle;
  if (truncates) {
    intent.range = {uint64_t(wanted.st_size), ByteRange::kEndOfFile};
  } else {
    intent.mode = uint32_t(to_set);
  }
  return intent;
}

void setattr(fuse_req_t req, fuse_ino_t node, struct stat* wanted, int to_set, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  Inode inode;
  if (int error = fs.inodes.open(node, inode); error != 0) return reply(req, error);
  const OpenFile* file = fi ? fs.files.at(fi->fh) : nullptr;
  const journal::Record intent = intent_of(req, inode, *wanted, to_set);
  Touched touched[] = {touch(inode, intent.range)};
  touched[0].frees = to_set & FUSE_SET_ATTR_SIZE;
  WorkerThread& thread = fs.workers.current();
  AttributeChange change(req, thread, node, inode, *wanted, to_set, file ? file->fd.get() : -1);
  int error;
  {
    Recorder::Mutation mutation(fs.recorder, thread.recording(), intent, touched);
    error = change.run();
    if (change.changed()) mutation.commit();
  }
  struct statx a;
  if (error == 0) error = attributes_of(inode.fd(), a);
  if (error != 0) return reply(req, error);
  struct stat st = to_stat(a);
  fuse_reply_attr(req, &st, kCacheSeconds);
}

void statfs(fuse_req_t req, fuse_ino_t) {
  struct statvfs st;
  if (::fstatvfs(filesystem(req).backing.get(), &st) != 0) return reply(req, -errno);
  fuse_reply_statfs(req, &st);
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops& ops) {
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.statfs = statfs;
#if EPOCHFS_FUSE_STATX
  ops.statx = statx;
#endif
}

}  // namespace epochfs::fs
