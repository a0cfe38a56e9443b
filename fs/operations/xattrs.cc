// Extended attributes, ACLs among them.
//
// They go through /proc/self/fd, since the calls by descriptor need one that is open for reading.
// The link leads to the file itself, even if that is a symbolic link.
#include <sys/xattr.h>

#include <cstring>
#include <vector>

#include "fs/operations/filesystem.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {
namespace {

constexpr size_t kMaxValueBytes = 64 << 10;  // XATTR_SIZE_MAX and XATTR_LIST_MAX

bool is_journal_name(fuse_ino_t node, const char* name) {
  return node == kRootNode && std::strcmp(name, journal::kJournalXattr) == 0;
}

// Before the first write after a change of attributes, the kernel asks for this one, to remove it.
// Hardly any file has it.
bool is_capability(const char* name) { return std::strcmp(name, "security.capability") == 0; }

// Notes that a file has no capabilities, unless some may just have been set.
void note_plain(Filesystem& fs, fuse_ino_t node, uint64_t generation) {
  fs.inodes.set_plain(node, true);
  if (fs.capability_generation != generation) fs.inodes.set_plain(node, false);
}

void getxattr(fuse_req_t req, fuse_ino_t node, const char* name, size_t size) {
  Filesystem& fs = filesystem(req);
  if (is_journal_name(node, name)) {
    const std::string& path = fs.journal_path;
    if (size == 0) return void(fuse_reply_xattr(req, path.size()));
    if (size < path.size()) return reply(req, -ERANGE);
    return void(fuse_reply_buf(req, path.data(), path.size()));
  }
  const bool capability = is_capability(name);
  if (capability && fs.inodes.is_plain(node)) return reply(req, -ENODATA);
  const uint64_t generation = fs.capability_generation;
  Inode inode;
  if (int error = fs.inodes.open(node, inode); error != 0) return reply(req, error);
  std::vector<char> value(std::min(size, kMaxValueBytes));
  ssize_t length = ::getxattr(proc_path(inode.fd()).c_str(), name, value.data(), value.size());
  const int error = length < 0 ? -errno : 0;
  if (capability && error == -ENODATA) note_plain(fs, node, generation);
  if (error != 0) return reply(req, error);
  if (size == 0) return void(fuse_reply_xattr(req, size_t(length)));
  fuse_reply_buf(req, value.data(), size_t(length));
}

void listxattr(fuse_req_t req, fuse_ino_t node, size_t size) {
  Inode inode;
  if (int error = filesystem(req).inodes.open(node, inode); error != 0) return reply(req, error);
  const std::string path = proc_path(inode.fd());
  std::vector<char> names(std::min(size, kMaxValueBytes));
  ssize_t length;
  {
    // Some file systems show names in trusted.* only to privileged callers.
    WorkerThread::WithoutAdministration user(fuse_req_ctx(req)->uid != 0);
    length = ::listxattr(path.c_str(), names.data(), names.size());
  }
  if (length < 0) return reply(req, -errno);
  if (size == 0) return void(fuse_reply_xattr(req, size_t(length)));
  fuse_reply_buf(req, names.data(), size_t(length));
}

journal::Record xattr_intent(fuse_req_t req, journal::RecordType type, const Inode& inode,
                             const char* name) {
  journal::Record intent = make_intent(req, type);
  intent.file = inode.id;
  intent.handle = inode.handle;
  intent.name = name;
  return intent;
}

// Changes an attribute with change(path), which returns 0 or sets errno.
template <typename Change>
void change_xattr(fuse_req_t req, fuse_ino_t node, journal::RecordType type, const char* name,
                  Change&& change) {
  Filesystem& fs = filesystem(req);
  if (is_journal_name(node, name)) return reply(req, -EPERM);
  Inode inode;
  if (int error = fs.inodes.open(node, inode); error != 0) return reply(req, error);
  const journal::Record intent = xattr_intent(req, type, inode, name);
  const Touched touched[] = {touch(inode)};
  const std::string path = proc_path(inode.fd());
  // Setting an ACL clears the set-gid bit, unless the caller is in the group or privileged.
  const bool acl = std::strcmp(name, "system.posix_acl_access") == 0;
  const auto groups = groups_for_set_id(req, inode.fd(), acl && fuse_req_ctx(req)->uid != 0);
  WorkerThread& thread = fs.workers.current();
  int error = 0;
  if (is_capability(name)) ++fs.capability_generation;
  {
    Recorder::Mutation mutation(fs.recorder, thread.recording(), intent, touched);
    {
      WorkerThread::AsOrdinaryUser user(thread, groups);
      WorkerThread::Spending spending(thread, fuse_req_ctx(req)->uid);
      if (change(path.c_str()) != 0) error = -errno;
    }
    if (error == 0) mutation.commit();
  }
  if (is_capability(name)) fs.inodes.set_plain(node, false);
  reply(req, error);
}

void setxattr(fuse_req_t req, fuse_ino_t node, const char* name, const char* value, size_t size,
              int flags) {
  change_xattr(req, node, journal::RecordType::kSetXattr, name,
               [&](const char* path) { return ::setxattr(path, name, value, size, flags); });
}

void removexattr(fuse_req_t req, fuse_ino_t node, const char* name) {
  change_xattr(req, node, journal::RecordType::kRemoveXattr, name,
               [&](const char* path) { return ::removexattr(path, name); });
}

}  // namespace

void add_xattr_operations(fuse_lowlevel_ops& ops) {
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.setxattr = setxattr;
  ops.removexattr = removexattr;
}

}  // namespace epochfs::fs
