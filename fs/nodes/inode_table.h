// InodeTable: which backing file does the kernel's node id mean?
//
// A node id is an index into this table and a generation. It is never a pointer, and never used
// again for another file. An inode holds identity, handle, type and the kernel's lookup count, but
// no descriptor: operations get an O_PATH descriptor, opened by handle, from a bounded cache.
//
// LOOKUP and FORGET of one file meet in one shard. Only under that shard's lock does the lookup
// count change, and does an inode come or go.
//
// Memory: about 80 bytes an inode for handles of up to 24 bytes (ext4, XFS, most of btrfs), plus
// the C library's overhead for longer ones. It goes back to the system when the kernel forgets.
//
// Threads: every method from any thread. No lock is held during a system call on a file.
#pragma once

#include <atomic>
#include <memory>

#include "journal/base/types.h"
#include "journal/base/unix.h"

namespace epochfs::fs {

using NodeId = uint64_t;
constexpr NodeId kRootNode = 1;  // FUSE_ROOT_ID

// A descriptor that stays open for as long as something uses it.
using SharedFd = std::shared_ptr<const UniqueFd>;
inline SharedFd share(UniqueFd fd) { return std::make_shared<const UniqueFd>(std::move(fd)); }

// An operation's own copy of what the table knows of an inode.
struct Inode {
  FileId id;
  FileHandle handle;
  uint32_t type = 0;  // S_IFMT bits
  SharedFd path;      // O_PATH; find() sets it only if the table has one open

  int fd() const { return path->get(); }
};

class InodeTable {
 public:
  // root: the backing directory, with an open descriptor that can open handles (not O_PATH).
  // max_descriptors bounds the cache; descriptors in use by operations and pinned ones come on
  // top. keep_all is for when handles cannot be opened: every known file then keeps the descriptor
  // that add() gets, which must be given.
  InodeTable(Inode root, size_t max_descriptors, bool keep_all = false);
  ~InodeTable();

  // Returns the node of a file that the kernel is about to learn of, and counts one lookup.
  // inode.path, if given, may enter the cache.
  NodeId add(const Inode& inode);
  // The kernel gives that many lookups back. At zero the inode goes.
  void forget(NodeId node, uint64_t lookups);

  // 0 or -errno; -ESTALE: there is no such node, or the file is gone. open() opens the file if
  // no descriptor is at hand.
  int find(NodeId node, Inode& out);
  int open(NodeId node, Inode& out);

  // Whether the kernel knows the file.
  bool knows(const FileHandle& handle);
  // Keeps the descriptor for as long as the kernel knows the file: its last name is about to go,
  // and perhaps with it the way to open it by handle. Does nothing if the kernel does not know it.
  void pin(const FileHandle& handle, SharedFd path);

  // Whether the file certainly has no file capabilities (security.capability). The kernel asks for
  // them before a write, and again whenever attributes have changed.
  bool is_plain(NodeId node) const;
  void set_plain(NodeId node, bool plain);

  size_t size() const;         // inodes known, without the root
  size_t descriptors() const;  // in the cache

 private:
  struct Slot;
  struct Shard;
  static constexpr size_t kShards = 64;

  Shard& shard_of(NodeId node) const;

  const Inode root_;
  const bool keep_all_;
  std::unique_ptr<Shard[]> shards_;
};

}  // namespace epochfs::fs
