// Create, mknod, mkdir, symlink, tmpfile, link, unlink, rmdir, rename: which file has which name?
//
// The kernel holds the locks of the directories (and of a victim) until the reply, so no other
// request changes a name between our look at it and the system call.
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {
namespace {

struct Named {
  FileId id;
  FileHandle handle;
  struct statx attributes {};
  SharedFd path;  // of a file that was just made, for the inode table

  explicit operator bool() const { return bool(id); }
};

// 0 or -errno. With an empty name: looks at `dir` itself.
int look_at(const Filesystem& fs, int dir, const char* name, Named& out) {
  int error = identify(dir, name, out.attributes, out.handle);
  if (error == 0) error = check_device(fs, out.attributes);
  if (error == 0) out.id = file_id(out.attributes);
  return error;
}

journal::Record name_intent(fuse_req_t req, journal::RecordType type, const Inode& parent,
                            const char* name) {
  journal::Record intent = make_intent(req, type);
  intent.parent = parent.id;
  intent.parent_handle = parent.handle;
  intent.name = name;
  return intent;
}

void set_file(journal::Record& record, const FileId& id, const FileHandle& handle) {
  record.file = id;
  record.handle = handle;
}

// Makes a name with make(parent descriptor), which returns 0 or sets errno, and records it with the
// identity of the file that was made. 0 or -errno.
template <typename Make>
int make_name(fuse_req_t req, NodeId parent_node, const char* name, journal::RecordType type,
              mode_t mode, Named& made, Make&& make) {
  Filesystem& fs = filesystem(req);
  Inode parent;
  if (int error = fs.inodes.open(parent_node, parent); error != 0) return error;
  WorkerThread& thread = fs.workers.current();
  journal::Record intent = name_intent(req, type, parent, name);
  if (type != journal::RecordType::kSymlink) intent.mode = mode;
  const Touched touched[] = {touch(parent)};

  Recorder::Mutation mutation(fs.recorder, thread.recording(), intent, touched);
  {
    WorkerThread::AsCaller caller(thread, *fuse_req_ctx(req));
    if (make(parent.fd()) != 0) return -errno;
  }
  int error = look_at(fs, parent.fd(), name, made);
  if (error == 0) error = path_to_keep(req, parent.fd(), name, made.path);
  set_file(mutation.record(), made.id, made.handle);
  mutation.also_dirty(made.id, {});
  mutation.commit();
  return error;
}

void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  const journal::RecordType type =
      S_ISREG(mode) ? journal::RecordType::kCreate : journal::RecordType::kMakeNode;
  Named made;
  int error = make_name(req, parent, name, type, mode, made,
                        [&](int dir) { return ::mknodat(dir, name, mode, device); });
  if (error != 0) return reply(req, error);
  reply_entry(req, make_entry(filesystem(req), made.attributes, made.handle, made.path));
}

void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  Named made;
  int error = make_name(req, parent, name, journal::RecordType::kMakeDirectory, mode, made,
                        [&](int dir) { return ::mkdirat(dir, name, mode); });
  if (error != 0) return reply(req, error);
  reply_entry(req, make_entry(filesystem(req), made.attributes, made.handle, made.path));
}

void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  Named made;
  int error = make_name(req, parent, name, journal::RecordType::kSymlink, 0, made,
                        [&](int dir) { return ::symlinkat(target, dir, name); });
  if (error != 0) return reply(req, error);
  reply_entry(req, make_entry(filesystem(req), made.attributes, made.handle, made.path));
}

std::unique_ptr<OpenFile> open_file_of(const Filesystem& fs, UniqueFd fd, NodeId node,
                                       const Named& made, int flags) {
  auto file = std::make_unique<OpenFile>();
  file->fd = std::move(fd);
  file->node = node;
  file->id = made.id;
  file->handle = made.handle;
  file->flags = flags;
  file->set_id = made.attributes.stx_mode & (S_ISUID | S_ISGID);
  file->set_id_checked = fs.set_id_generation.load();
  return file;
}

void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  UniqueFd fd;
  Named made;
  // Always exclusive: the kernel would already know a file of that name.
  int error = make_name(req, parent, name, journal::RecordType::kCreate, mode, made, [&](int dir) {
    fd.reset(::openat(dir, name, backing_flags(fs, fi->flags) | O_CREAT | O_EXCL, mode & 07777));
    return fd ? 0 : -1;
  });
  if (error != 0) return reply(req, error);
  fuse_entry_param entry = make_entry(fs, made.attributes, made.handle, made.path);
  fs.inodes.set_plain(entry.ino, true);
  reply_open(req, open_file_of(fs, std::move(fd), entry.ino, made, fi->flags), fi, &entry);
}

#if EPOCHFS_FUSE_TMPFILE
int make_temporary(fuse_req_t req, NodeId parent_node, mode_t mode, int flags, UniqueFd& fd,
                   Named& made) {
  Filesystem& fs = filesystem(req);
  Inode parent;
  if (int error = fs.inodes.open(parent_node, parent); error != 0) return error;
  WorkerThread& thread = fs.workers.current();
  journal::Record intent = make_intent(req, journal::RecordType::kTemporary);
  intent.mode = mode;

  Recorder::Mutation mutation(fs.recorder, thread.recording(), intent, {});
  {
    WorkerThread::AsCaller caller(thread, *fuse_req_ctx(req));
    // Without O_EXCL, the file can get a name later.
    const int how = (backing_flags(fs, flags) & ~O_NOFOLLOW) | O_TMPFILE | (flags & O_EXCL);
    fd.reset(::openat(parent.fd(), ".", how, mode & 07777));
    if (!fd) return -errno;
  }
  int error = look_at(fs, fd.get(), "", made);
  if (error == 0) error = path_to_keep(req, fd.get(), "", made.path);
  set_file(mutation.record(), made.id, made.handle);
  mutation.commit();
  return error;
}

void tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, fuse_file_info* fi) {
  Filesystem& fs = filesystem(req);
  UniqueFd fd;
  Named made;
  int error = make_temporary(req, parent, mode, fi->flags, fd, made);
  if (error != 0) return reply(req, error);
  fuse_entry_param entry = make_entry(fs, made.attributes, made.handle, made.path);
  reply_open(req, open_file_of(fs, std::move(fd), entry.ino, made, fi->flags), fi, &entry);
}
#endif

// 0 or -errno. linkat(2) with an empty path takes root; the way through /proc does not.
int give_name(const Inode& file, const Inode& parent, const char* name) {
  if (::linkat(file.fd(), "", parent.fd(), name, AT_EMPTY_PATH) == 0) return 0;
  if (errno != ENOENT) return -errno;
  const std::string path = proc_path(file.fd());
  return ::linkat(AT_FDCWD, path.c_str(), parent.fd(), name, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

// Records the first name of a file that was made without one as a creation. A file without a name
// is not replicated, so it is new to every target, whenever it was made. The kernel holds the
// file's own lock, so the number of links is exact.
void set_first_name(journal::Record& record, const struct statx& a) {
  if (a.stx_nlink != 1) return;
  record.type = journal::RecordType::kCreate;
  record.mode = a.stx_mode;
}

void link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent_node, const char* name) {
  Filesystem& fs = filesystem(req);
  Inode file, parent;
  int error = fs.inodes.open(node, file);
  if (error == 0) error = fs.inodes.open(parent_node, parent);
  if (error != 0) return reply(req, error);
  journal::Record intent = name_intent(req, journal::RecordType::kLink, parent, name);
  set_file(intent, file.id, file.handle);
  const Touched touched[] = {touch(parent), touch(file)};
  struct statx a;
  {
    WorkerThread& thread = fs.workers.current();
    Recorder::Mutation mutation(fs.recorder, thread.recording(), intent, touched);
    {
      WorkerThread::Spending spending(thread, fuse_req_ctx(req)->uid);
      error = give_name(file, parent, name);
    }
    if (error == 0) {
      error = attributes_of(file.fd(), a);
      if (error == 0) set_first_name(mutation.record(), a);
      mutation.commit();
    }
  }
  if (error != 0) return reply(req, error);
  reply_entry(req, make_entry(fs, a, file.handle, file.path));
}

// A file whose last name is about to go. The kernel may go on knowing it (it is open, or is a
// working directory), and not every file system opens such a file by handle. So a descriptor is
// kept for it.
class Victim {
 public:
  Victim(Filesystem& fs, int dir, const char* name, const Named& file)
      : fs_(fs),
        id_(file.id),
        handle_(file.handle),
        vanishing_(S_ISDIR(file.attributes.stx_mode) || file.attributes.stx_nlink <= 1) {
    if (!file || !vanishing_ || !fs.inodes.knows(file.handle)) return;
    UniqueFd fd(::openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (fd) path_ = share(std::move(fd));
  }
  Touched touched() const {
    return {.id = id_, .handle = handle_, .fd = path_ ? path_->get() : -1, .vanishing = vanishing_};
  }
  void is_gone() {
    if (path_) fs_.inodes.pin(handle_, std::move(path_));
  }

 private:
  Filesystem& fs_;
  const FileId id_;
  const FileHandle handle_;
  const bool vanishing_;
  SharedFd path_;
};

int remove_name(fuse_req_t req, NodeId parent_node, const char* name, journal::RecordType type,
                int flags) {
  Filesystem& fs = filesystem(req);
  Inode parent;
  Named file;
  int error = fs.inodes.open(parent_node, parent);
  if (error == 0) error = look_at(fs, parent.fd(), name, file);
  if (error != 0) return error;
  Victim victim(fs, parent.fd(), name, file);
  journal::Record intent = name_intent(req, type, parent, name);
  intent.file = file.id;
  const Touched touched[] = {touch(parent), victim.touched()};

  Recorder::Mutation mutation(fs.recorder, fs.workers.current().recording(), intent, touched);
  if (::unlinkat(parent.fd(), name, flags) != 0) return -errno;
  mutation.commit();
  victim.is_gone();
  return 0;
}

void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  reply(req, remove_name(req, parent, name, journal::RecordType::kUnlink, 0));
}

void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  reply(req, remove_name(req, parent, name, journal::RecordType::kRemoveDirectory, AT_REMOVEDIR));
}

struct Place {
  Inode dir;
  const char* name;
  Named file;  // the file that has the name; none if the name is free
};

// Records what the kernel has made in place of a file that was renamed away.
void record_whiteout(const Filesystem& fs, Recorder::Mutation& mutation, const Inode& dir,
                     const journal::Record& renamed) {
  Named whiteout;
  const std::string name(renamed.name);
  if (look_at(fs, dir.fd(), name.c_str(), whiteout) != 0) return;
  journal::Record record;
  record.type = journal::RecordType::kMakeNode;
  record.caller = renamed.caller;
  record.parent = renamed.parent;
  record.parent_handle = renamed.parent_handle;
  record.name = name;
  record.mode = whiteout.attributes.stx_mode;
  set_file(record, whiteout.id, whiteout.handle);
  mutation.commit_also(record);
}

// An exchange moves two files, but its record says only of the first that it may have changed. XFS
// takes a directory's new parent for a change of its contents, and moves its mtime.
void record_exchanged(Recorder::Mutation& mutation, const Named& other,
                      const journal::Record& renamed) {
  journal::Record record;
  record.type = journal::RecordType::kSetAttributes;
  record.caller = renamed.caller;
  record.mode = FUSE_SET_ATTR_MTIME;
  set_file(record, other.id, other.handle);
  mutation.commit_also(record);
}

int rename_files(fuse_req_t req, Place& from, Place& to, unsigned flags) {
  Filesystem& fs = filesystem(req);
  const bool replaces = to.file && !(flags & RENAME_EXCHANGE);
  Victim victim(fs, to.dir.fd(), to.name, replaces ? to.file : Named{});
  journal::Record intent = name_intent(req, journal::RecordType::kRename, from.dir, from.name);
  set_file(intent, from.file.id, from.file.handle);
  intent.parent2 = to.dir.id;
  intent.parent2_handle = to.dir.handle;
  intent.name2 = to.name;
  intent.other = to.file.id;
  intent.mode = flags;
  const Touched moved{.id = from.file.id, .handle = from.file.handle};
  const Touched other{.id = to.file.id, .handle = to.file.handle};
  const Touched touched[] = {touch(from.dir), touch(to.dir), moved,
                             replaces ? victim.touched() : other};
  const size_t count = to.file ? 4 : 3;

  WorkerThread& thread = fs.workers.current();
  Recorder::Mutation mutation(fs.recorder, thread.recording(), intent, std::span(touched, count));
  {
    WorkerThread::Spending spending(thread, fuse_req_ctx(req)->uid);
    if (::renameat2(from.dir.fd(), from.name, to.dir.fd(), to.name, flags) != 0) return -errno;
  }
  // If both are names of one file, rename(2) does nothing.
  if (from.file.id == to.file.id) return 0;
  mutation.commit();
  if (replaces) victim.is_gone();
  if (flags & RENAME_EXCHANGE) record_exchanged(mutation, to.file, intent);
  if (flags & RENAME_WHITEOUT) record_whiteout(fs, mutation, from.dir, intent);
  return 0;
}

void rename(fuse_req_t req, fuse_ino_t from_node, const char* from_name, fuse_ino_t to_node,
            const char* to_name, unsigned flags) {
  Filesystem& fs = filesystem(req);
  Place from{.name = from_name}, to{.name = to_name};
  int error = fs.inodes.open(from_node, from.dir);
  if (error == 0) error = fs.inodes.open(to_node, to.dir);
  if (error == 0) error = look_at(fs, from.dir.fd(), from_name, from.file);
  if (error == 0) {
    error = look_at(fs, to.dir.fd(), to_name, to.file);
    if (error == -ENOENT) error = 0;
  }
  if (error == 0) error = rename_files(req, from, to, flags);
  reply(req, error);
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& ops) {
  ops.mknod = mknod;
  ops.mkdir = mkdir;
  ops.symlink = symlink;
  ops.create = create;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.rename = rename;
#if EPOCHFS_FUSE_TMPFILE
  ops.tmpfile = tmpfile;
#endif
}

}  // namespace epochfs::fs
