// Opendir, readdir, readdirplus, fsyncdir: which names does a directory have?
//
// Offsets are the backing file system's own: they stay valid while names come and go, and mean the
// same in every later open of the directory.
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {
namespace {

constexpr size_t kBufferBytes = 64 << 10;

// What getdents64(2) writes. The name follows.
struct KernelEntry {
  uint64_t inode;
  int64_t next_offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

// Fills the buffer, which must be used up. Returns the bytes read, 0 at the end, or -errno.
int refill(OpenDirectory& dir) EPOCHFS_REQUIRES(dir.mutex) {
  dir.buffer.resize(kBufferBytes);
  long n = ::syscall(SYS_getdents64, dir.fd.get(), dir.buffer.data(), dir.buffer.size());
  if (n < 0) return -errno;
  dir.begin = 0;
  dir.end = size_t(n);
  return int(n);
}

// Makes the entry at `offset` the next one. 0 or -errno.
int go_to(OpenDirectory& dir, off_t offset) EPOCHFS_REQUIRES(dir.mutex) {
  // The beginning is always read anew, as rewinddir(3) promises.
  if (offset == dir.next_offset && offset != 0) return 0;
  if (::lseek(dir.fd.get(), offset, SEEK_SET) < 0) return -errno;
  dir.begin = dir.end = 0;
  dir.next_offset = offset;
  return 0;
}

// The next entry, without moving on; null at the end or on an error.
const KernelEntry* peek(OpenDirectory& dir, int& error) EPOCHFS_REQUIRES(dir.mutex) {
  if (dir.begin == dir.end) {
    int n = refill(dir);
    error = n < 0 ? n : 0;
    if (n <= 0) return nullptr;
  }
  return reinterpret_cast<const KernelEntry*>(dir.buffer.data() + dir.begin);
}

void pass(OpenDirectory& dir, const KernelEntry& entry) EPOCHFS_REQUIRES(dir.mutex) {
  dir.next_offset = entry.next_offset;
  dir.begin += entry.length;
}

// Collects entries for one answer.
class Answer {
 public:
  Answer(fuse_req_t req, size_t size) : req_(req), buffer_(size) {}

  // False: it does not fit.
  bool add(const KernelEntry& entry) {
    struct stat st {};
    st.st_ino = entry.inode;
    st.st_mode = mode_t(DTTOIF(entry.type));
    return took(fuse_add_direntry(req_, at(), left(), entry.name, &st, entry.next_offset));
  }

  bool add_plus(const KernelEntry& entry, OpenDirectory& dir) {
    // Checked first, so that what does not fit is not looked up in vain.
    if (fuse_add_direntry_plus(req_, nullptr, 0, entry.name, nullptr, 0) > left()) return false;
    fuse_entry_param found{};
    found.attr.st_ino = entry.inode;
    found.attr.st_mode = mode_t(DTTOIF(entry.type));
    if (!look_up(entry, dir, found)) return true;
    return took(fuse_add_direntry_plus(req_, at(), left(), entry.name, &found, entry.next_offset));
  }

  bool empty() const { return used_ == 0; }

  void send() {
    if (fuse_reply_buf(req_, buffer_.data(), used_) != -ENOENT) return;
    for (NodeId node : looked_up_) filesystem(req_).inodes.forget(node, 1);
  }

 private:
  char* at() { return buffer_.data() + used_; }
  size_t left() const { return buffer_.size() - used_; }
  bool took(size_t size) {
    if (size > left()) return false;
    used_ += size;
    return true;
  }

  // False: the name is gone, so leave it out. An entry that cannot be looked up (a btrfs subvolume)
  // keeps node 0: the kernel asks again when an application wants it.
  bool look_up(const KernelEntry& entry, OpenDirectory& dir, fuse_entry_param& found) {
    const std::string_view name = entry.name;
    if (name == "." || name == "..") return true;
    Filesystem& fs = filesystem(req_);
    struct statx a;
    FileHandle handle;
    int error = identify(dir.fd.get(), entry.name, a, handle);
    if (error == -ENOENT) return false;
    if (error != 0 || check_device(fs, a) != 0) return true;
    SharedFd path;
    if (path_to_keep(req_, dir.fd.get(), entry.name, path) != 0) return true;
    found = make_entry(fs, a, handle, std::move(path));
    looked_up_.push_back(found.ino);
    return true;
  }

  fuse_req_t req_;
  std::vector<char> buffer_;
  size_t used_ = 0;
  std::vector<NodeId> looked_up_;
};

// 0 or -errno.
int collect(OpenDirectory& dir, off_t offset, bool plus, Answer& answer) {
  Lock lock(dir.mutex);
  int error = go_to(dir, offset);
  while (error == 0) {
    const KernelEntry* entry = peek(dir, error);
    if (!entry || !(plus ? answer.add_plus(*entry, dir) : answer.add(*entry))) break;
    pass(dir, *entry);
  }
  // Entries found before an error are passed on; the error comes again.
  return answer.empty() ? error : 0;
}

void read_entries(fuse_req_t req, size_t size, off_t offset, fuse_file_info* fi, bool plus) {
  OpenDirectory* dir = filesystem(req).directories.at(fi->fh);
  if (!dir) return reply(req, -EBADF);
  Answer answer(req, size);
  if (int error = collect(*dir, offset, plus, answer); error != 0) return reply(req, error);
  // The answer lets the kernel release the directory, so its lock was given back before.
  answer.send();
}

void readdir(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
  read_entries(req, size, offset, fi, false);
}

void readdirplus(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
  read_entries(req, size, offset, fi, true);
}

void opendir(fuse_req_t req, fuse_ino_t node, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  Inode inode;
  if (int error = fs.inodes.open(node, inode); error != 0) return reply(req, error);
  auto dir = std::make_unique<OpenDirectory>();
  dir->fd.reset(::openat(inode.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir->fd) return reply(req, -errno);
  if (is_reserved(req, dir->fd)) return reply(req, -ENFILE);
  fi->fh = fs.directories.add(std::move(dir));
  fi->cache_readdir = 1;  // nobody else changes the directory
  fi->keep_cache = 1;
  if (fuse_reply_open(req, fi) == -ENOENT) fs.directories.take(fi->fh);
}

void releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  filesystem(req).directories.take(fi->fh);
  reply(req, 0);
}

void fsyncdir(fuse_req_t req, fuse_ino_t, int data_only, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  OpenDirectory* dir = fs.directories.at(fi->fh);
  if (!dir) return reply(req, -EBADF);
  reply(req, make_durable(fs, dir->fd.get(), data_only));
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& ops) {
  ops.opendir = opendir;
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
  ops.releasedir = releasedir;
  ops.fsyncdir = fsyncdir;
}

}  // namespace epochfs::fs
