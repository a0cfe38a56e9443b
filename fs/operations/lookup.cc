// Lookup, forget, readlink: which file has this name, and does the kernel still know it?
#include <fcntl.h>

#include <climits>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {
namespace {

// "." and ".." come only from the kernel's own NFS server and open_by_handle_at(2).
SharedFd open_name(NodeId parent_node, const Inode& parent, const char* name) {
  const std::string_view n = name;
  if (n == "." || (n == ".." && parent_node == kRootNode)) return parent.path;
  UniqueFd fd(::openat(parent.fd(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return fd ? share(std::move(fd)) : nullptr;
}

void reply_no_such_name(fuse_req_t req) {
  fuse_entry_param entry{};  // no node: the kernel remembers that there is none
  entry.entry_timeout = kCacheSeconds;
  fuse_reply_entry(req, &entry);
}

void lookup(fuse_req_t req, fuse_ino_t parent_node, const char* name) {
  Filesystem& fs = filesystem(req);
  Inode parent;
  if (int error = fs.inodes.open(parent_node, parent); error != 0) return reply(req, error);
  // By descriptor, so that identity and handle belong to one file even if the name moves to another
  // meanwhile: not every lookup runs under the directory's lock.
  SharedFd path = open_name(parent_node, parent, name);
  if (!path && errno == ENOENT) return reply_no_such_name(req);
  if (!path) return reply(req, -errno);
  if (fs.by_descriptor && is_reserved(req, *path)) return reply(req, -ENFILE);
  struct statx a;
  FileHandle handle;
  int error = identify(path->get(), "", a, handle);
  if (error == 0) error = check_device(fs, a);
  if (error != 0) return reply(req, error);
  reply_entry(req, make_entry(fs, a, handle, std::move(path)));
}

void forget(fuse_req_t req, fuse_ino_t node, uint64_t lookups) {
  filesystem(req).inodes.forget(node, lookups);
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i) {
    filesystem(req).inodes.forget(forgets[i].ino, forgets[i].nlookup);
  }
  fuse_reply_none(req);
}

void readlink(fuse_req_t req, fuse_ino_t node) {
  Inode inode;
  if (int error = filesystem(req).inodes.open(node, inode); error != 0) return reply(req, error);
  char target[PATH_MAX + 1];
  ssize_t size = ::readlinkat(inode.fd(), "", target, PATH_MAX);
  if (size < 0) return reply(req, -errno);
  target[size] = '\0';
  fuse_reply_readlink(req, target);
}

}  // namespace

void add_lookup_operations(fuse_lowlevel_ops& ops) {
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
  ops.readlink = readlink;
}

}  // namespace epochfs::fs
