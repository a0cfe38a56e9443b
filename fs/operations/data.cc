// Open, read, write, fsync and the like: what is in a file?
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>

#include "fs/operations/filesystem.h"
#include "fs/operations/keep_mtime.h"

namespace epochfs::fs {
namespace {

// One request must not hold up a barrier for long. This much is copied within some milliseconds;
// 64 MiB were not. The caller asks for the rest.
constexpr size_t kMaxCopyAtOnce = 8 << 20;

int open_backing(Filesystem& fs, const Inode& inode, int flags) {
  int fd = open_handle(fs.backing.get(), inode.handle, flags);
  // A file without a name opens through the descriptor that is kept for it. So does every file if
  // this process may not open handles.
  if ((fd == -ESTALE || fd == -EPERM) && inode.path) {
    fd = ::open(proc_path(inode.fd()).c_str(), flags & ~O_NOFOLLOW);
    if (fd < 0) fd = -errno;
  }
  return fd;
}

void open(fuse_req_t req, fuse_ino_t node, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  Inode inode;
  if (int error = fs.inodes.find(node, inode); error != 0) return reply(req, error);
  auto file = std::make_unique<OpenFile>();
  file->fd.reset(open_backing(fs, inode, backing_flags(fs, fi->flags)));
  if (!file->fd) return reply(req, file->fd.get());
  file->node = node;
  file->id = inode.id;
  file->handle = inode.handle;
  file->flags = fi->flags;
  reply_open(req, std::move(file), fi);
}

void release(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  close_file(filesystem(req), fi->fh);
  reply(req, 0);
}

void read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
  OpenFile* file = filesystem(req).files.at(fi->fh);
  if (!file) return reply(req, -EBADF);
  fuse_bufvec from = FUSE_BUFVEC_INIT(size);
  from.buf[0].flags = fuse_buf_flags(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY);
  from.buf[0].fd = file->fd.get();
  from.buf[0].pos = offset;
  fuse_reply_data(req, &from, fuse_buf_copy_flags(0));
}

// ---- writing ----

bool has_set_id_bits(const Filesystem& fs, OpenFile& file) {
  const uint64_t generation = fs.set_id_generation.load();
  if (file.set_id_checked.load() != generation) {
    struct stat st;
    file.set_id = ::fstat(file.fd.get(), &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID));
    file.set_id_checked = generation;
  }
  return file.set_id;
}

// Nearly always costs nothing for a file without set-id bits.
std::vector<gid_t> groups_for_write(fuse_req_t req, const Filesystem& fs, OpenFile& file,
                                    bool clears) {
  if (!clears || !has_set_id_bits(fs, file)) return {};
  return groups_for_set_id(req, file.fd.get(), true);
}

bool wants_set_id_cleared(fuse_req_t req, const fuse_file_info* fi) {
#if EPOCHFS_FUSE_KILLPRIV_V2
  return fi->kill_suidgid;
#else
  return fuse_req_ctx(req)->uid != 0 && !fi->writepage;
#endif
}

// The kernel trusts the mode that it knows: it would even execute a file with set-id bits that we
// have just cleared.
void tell_kernel_of_mode(Filesystem& fs, NodeId node, OpenFile& file) {
  file.set_id_checked = 0;
  fuse_lowlevel_notify_inval_inode(fs.session, node, -1, 0);
}

// Bytes written (fewer only if an error came in between), or -errno.
ssize_t write_all(int fd, const char* data, size_t size, off_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = ::pwrite(fd, data + done, size - done, offset + off_t(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && done == 0) return -errno;
    if (n <= 0) break;
    done += size_t(n);
  }
  return ssize_t(done);
}

journal::Record data_intent(fuse_req_t req, journal::RecordType type, const OpenFile& file,
                            ByteRange range) {
  journal::Record intent = make_intent(req, type);
  intent.file = file.id;
  intent.handle = file.handle;
  intent.range = range;
  return intent;
}

struct DataChange {
  journal::Record intent;
  Touched touched;
  bool clears_set_id;
  uid_t spender;  // whose quota counts; only root may use reserved blocks
};

// Carries out a change of a file's bytes. act() makes the system call and returns 0 or more, or
// -errno; finish(mutation, that) records what it has changed. Returns act's result.
template <typename Act, typename Finish>
ssize_t change_data(fuse_req_t req, NodeId node, OpenFile& file, const DataChange& change,
                    Act&& act, Finish&& finish) {
  Filesystem& fs = filesystem(req);
  const auto groups = groups_for_write(req, fs, file, change.clears_set_id);
  WorkerThread& thread = fs.workers.current();
  ssize_t result;
  {
    Recorder::Mutation mutation(fs.recorder, thread.recording(), change.intent,
                                {&change.touched, 1});
    {
      WorkerThread::AsOrdinaryUser user(thread, groups);
      KeepMtime keep(fs, node, file.fd.get());
      WorkerThread::Spending spending(thread, change.spender);
      result = act();
    }
    finish(mutation, result);
  }
  if (!groups.empty()) tell_kernel_of_mode(fs, node, file);
  return result;
}

void reply_bytes(fuse_req_t req, ssize_t count) {
  if (count < 0) return reply(req, int(count));
  fuse_reply_write(req, size_t(count));
}

void write(fuse_req_t req, fuse_ino_t node, const char* data, size_t size, off_t offset,
           fuse_file_info* fi) {
  OpenFile* file = filesystem(req).files.at(fi->fh);
  if (!file) return reply(req, -EBADF);
  const ByteRange range{uint64_t(offset), uint64_t(offset) + size};
  const DataChange change{
      .intent = data_intent(req, journal::RecordType::kWrite, *file, range),
      .touched = touch(*file, range),
      .clears_set_id = wants_set_id_cleared(req, fi),
      // Mapped pages that the kernel writes back belong to no caller: a refusal would lose them.
      .spender = fi->writepage ? 0 : fuse_req_ctx(req)->uid};
  const ssize_t written = change_data(
      req, node, *file, change, [&] { return write_all(file->fd.get(), data, size, offset); },
      [&](Recorder::Mutation& mutation, ssize_t n) {
        // A failed write has changed times, and perhaps more: the whole range counts.
        if (n >= 0) mutation.record().range.end = range.begin + uint64_t(n);
        mutation.commit();
      });
  reply_bytes(req, written);
}

void fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
               fuse_file_info* fi) {
  OpenFile* file = filesystem(req).files.at(fi->fh);
  if (!file) return reply(req, -EBADF);
  const bool moves_the_rest = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
  const ByteRange range{uint64_t(offset), moves_the_rest ? ByteRange::kEndOfFile
                                                         : uint64_t(offset) + uint64_t(length)};
  DataChange change{.intent = data_intent(req, journal::RecordType::kAllocate, *file, range),
                    .touched = touch(*file, range),
                    // The request does not say whether to clear set-id bits; the file system
                    // clears them when the caller is not privileged.
                    .clears_set_id = fuse_req_ctx(req)->uid != 0,
                    .spender = fuse_req_ctx(req)->uid};
  change.intent.mode = uint32_t(mode);
  change.touched.frees = mode & FALLOC_FL_PUNCH_HOLE;
  const ssize_t error = change_data(
      req, node, *file, change,
      [&] { return ::fallocate(file->fd.get(), mode, offset, length) == 0 ? 0 : -errno; },
      [](Recorder::Mutation& mutation, ssize_t result) {
        // A mode that the file system lacks changes nothing. Other failures may come half-way.
        if (result != -EOPNOTSUPP) mutation.commit();
      });
  reply(req, int(error));
}

void copy_file_range(fuse_req_t req, fuse_ino_t, off_t from_offset, fuse_file_info* from_fi,
                     fuse_ino_t to_node, off_t to_offset, fuse_file_info* to_fi, size_t size,
                     int flags) {
  Filesystem& fs = filesystem(req);
  OpenFile* from = fs.files.at(from_fi->fh);
  OpenFile* to = fs.files.at(to_fi->fh);
  if (!from || !to) return reply(req, -EBADF);
  size = std::min(size, kMaxCopyAtOnce);
  const ByteRange range{uint64_t(to_offset), uint64_t(to_offset) + size};
  const DataChange change{.intent = data_intent(req, journal::RecordType::kWrite, *to, range),
                          .touched = touch(*to, range),
                          .clears_set_id = fuse_req_ctx(req)->uid != 0,
                          .spender = fuse_req_ctx(req)->uid};
  const ssize_t copied = change_data(
      req, to_node, *to, change,
      [&] {
        const ssize_t n = ::copy_file_range(from->fd.get(), &from_offset, to->fd.get(), &to_offset,
                                            size, unsigned(flags));
        return n < 0 ? ssize_t(-errno) : n;
      },
      [&](Recorder::Mutation& mutation, ssize_t n) {
        if (n > 0) mutation.record().range.end = range.begin + uint64_t(n);
        if (n != 0) mutation.commit();
      });
  reply_bytes(req, copied);
}

// The kernel also sends it after each write to a file that is open with O_SYNC.
void fsync(fuse_req_t req, fuse_ino_t, int data_only, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  OpenFile* file = fs.files.at(fi->fh);
  if (!file) return reply(req, -EBADF);
  reply(req, make_durable(fs, file->fd.get(), data_only));
}

void lseek(fuse_req_t req, fuse_ino_t, off_t offset, int whence, fuse_file_info* fi) {
  OpenFile* file = filesystem(req).files.at(fi->fh);
  if (!file) return reply(req, -EBADF);
  // The kernel asks without writing first what it has gathered. It would learn of holes where data
  // is on its way, so let it take everything for data, for good.
  if (filesystem(req).options.writeback) return reply(req, -ENOSYS);
  // Only SEEK_HOLE and SEEK_DATA come here, and nothing uses the descriptor's position.
  off_t found = ::lseek(file->fd.get(), offset, whence);
  if (found < 0) return reply(req, -errno);
  fuse_reply_lseek(req, found);
}

}  // namespace

// No flush: a close has nothing to tell. No locks: the kernel keeps them itself, since only
// applications of this mount can hold one.
//
// No write_buf either: with it, libfuse splices every request through a pipe. That costs each small
// request two more system calls, to spare large ones a copy that the splice into the backing file
// then makes all the same.
void add_data_operations(fuse_lowlevel_ops& ops) {
  ops.open = open;
  ops.release = release;
  ops.read = read;
  ops.write = write;
  ops.fallocate = fallocate;
  ops.copy_file_range = copy_file_range;
  ops.fsync = fsync;
  ops.lseek = lseek;
}

}  // namespace epochfs::fs
