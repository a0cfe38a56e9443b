// InodeTable: which backing file does a node id of the kernel's mean?
//
// A node id is an index into this table and a generation, never a pointer, and is
// not used again for another file. An inode holds identity, handle, type and the
// kernel's lookup count, and no descriptor: operations get an O_PATH descriptor,
// opened by handle, from a bounded cache.
//
// LOOKUP and FORGET of one file meet in one shard: the lookup count changes, and
// an inode comes and goes, under that shard's lock only.
//
// Memory: about 80 bytes an inode for handles of up to 24 bytes (ext4, XFS, most
// of btrfs), plus the C library's overhead for longer ones. It goes back to the system
// when the kernel forgets.
//
// Threads: every method from any thread. No lock is held over a system call that concerns
// files.
#pragma once

#include <atomic>
#include <memory>

#include "journal/base/types.h"
#include "journal/base/unix.h"

namespace epochfs::fs {

using NodeId = uint64_t;
constexpr NodeId kRootNode = 1;  // FUSE_ROOT_ID

// A descriptor that stays open for as long as somebody uses it.
using SharedFd = std::shared_ptr<const UniqueFd>;
inline SharedFd share(UniqueFd fd) { return std::make_shared<const UniqueFd>(std::move(fd)); }

// What an operation gets to see of an inode: a copy.
struct Inode {
  FileId id;
  FileHandle handle;
  uint32_t type = 0;  // S_IFMT bits
  SharedFd path;      // O_PATH; find() gives it only where it is at hand

  int fd() const { return path->get(); }
};

class InodeTable {
 public:
  // root: the backing directory, with an open descriptor that handles can be opened
  // with (not O_PATH). max_descriptors bounds the cache; what operations have in use
  // and what is pinned comes on top. Where handles cannot be opened, keep_all makes every
  // file known keep the descriptor that add() gets, which must then be given.
  InodeTable(Inode root, size_t max_descriptors, bool keep_all = false);
  ~InodeTable();

  // The node of a file that the kernel is about to be told of: counts one lookup.
  // path, if given, may enter the cache.
  NodeId add(const Inode& inode);
  // The kernel gives back so many lookups. At zero the inode goes.
  void forget(NodeId node, uint64_t lookups);

  // 0, or -ESTALE: no such node, or the file is gone.
  int find(NodeId node, Inode& out);
  int open(NodeId node, Inode& out);

  // Keeps a descriptor for as long as the kernel knows the file, because its last
  // name is about to go and with it, perhaps, the way to open it by handle. Nothing
  // happens when the kernel does not know it.
  bool knows(const FileHandle& handle);
  void pin(const FileHandle& handle, SharedFd path);

  // Whether the file is known to have no file capabilities (security.capability).
  // Before a write the kernel asks for them, and again whenever attributes changed.
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
