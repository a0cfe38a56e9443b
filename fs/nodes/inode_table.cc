#include "fs/nodes/inode_table.h"

#include <fcntl.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "fs/nodes/compact_handle.h"
#include "fs/nodes/slots.h"
#include "journal/base/mutex.h"

namespace epochfs::fs {
namespace {

size_t hash_of(const FileHandle& handle) { return std::hash<std::string_view>()(handle.view()); }

}  // namespace

struct InodeTable::Slot {
  FileId id;
  uint64_t lookups = 0;  // 0: free
  CompactHandle handle;
  uint32_t generation = 0;
  uint32_t next = 0;    // in its hash chain, or in its chunk's list of free slots
  uint32_t cached = 0;  // place in the descriptor cache; 0: none
  uint16_t type = 0;    // S_IFMT bits
  bool pinned = false;
  bool plain = false;  // has no file capabilities, for certain
};

// Slot numbers begin at 1: 0 means none, and no index is the root's.
struct InodeTable::Shard {
  struct Cached {
    SharedFd path;
    uint32_t slot = 0;    // 0: unused
    bool recent = false;  // used since the clock's hand came by
  };

  mutable Mutex mutex;
  Slots<Slot, UINT32_MAX / kShards> slots EPOCHFS_GUARDED_BY(mutex);
  std::vector<uint32_t> buckets EPOCHFS_GUARDED_BY(mutex) = std::vector<uint32_t>(16);
  size_t count EPOCHFS_GUARDED_BY(mutex) = 0;

  std::vector<Cached> cache EPOCHFS_GUARDED_BY(mutex){1};
  size_t cache_limit = 0;  // set once
  size_t cache_used EPOCHFS_GUARDED_BY(mutex) = 0;
  size_t hand EPOCHFS_GUARDED_BY(mutex) = 1;

  std::unordered_map<uint32_t, SharedFd> pinned EPOCHFS_GUARDED_BY(mutex);

  uint32_t& bucket(size_t hash) EPOCHFS_REQUIRES(mutex) {
    return buckets[(hash / kShards) % buckets.size()];
  }

  uint32_t find(const FileHandle& handle, size_t hash) EPOCHFS_REQUIRES(mutex) {
    uint32_t at = bucket(hash);
    while (at && !slots[at].handle.is(handle)) at = slots[at].next;
    return at;
  }

  Slot* at(NodeId node) EPOCHFS_REQUIRES(mutex) {
    Slot* slot = slots.find((node & UINT32_MAX) / kShards);
    return slot && slot->lookups && slot->generation == node >> 32 ? slot : nullptr;
  }

  uint32_t number_of(NodeId node) const { return uint32_t((node & UINT32_MAX) / kShards); }

  void grow() EPOCHFS_REQUIRES(mutex) {
    std::vector<uint32_t> old(buckets.size() * 2);
    old.swap(buckets);
    for (uint32_t head : old) {
      while (head) {
        Slot& slot = slots[head];
        uint32_t next = slot.next;
        uint32_t& to = bucket(hash_of(slot.handle.get()));
        slot.next = to;
        to = head;
        head = next;
      }
    }
  }

  uint32_t insert(const Inode& inode, size_t hash) EPOCHFS_REQUIRES(mutex) {
    if (count >= buckets.size()) grow();
    const uint32_t number = slots.take();
    Slot& slot = slots[number];
    slot.id = inode.id;
    slot.handle.set(inode.handle);
    slot.type = uint16_t(inode.type);
    slot.plain = false;
    uint32_t& head = bucket(hash);
    slot.next = head;
    head = number;
    ++count;
    return number;
  }

  // Returns the descriptors to close after unlocking.
  std::pair<SharedFd, SharedFd> erase(uint32_t number) EPOCHFS_REQUIRES(mutex) {
    Slot& slot = slots[number];
    uint32_t* link = &bucket(hash_of(slot.handle.get()));
    while (*link != number) link = &slots[*link].next;
    *link = slot.next;
    std::pair<SharedFd, SharedFd> dropped{uncache(slot), unpin(slot, number)};
    slot.handle.clear();
    slots.give_back(number);
    --count;
    return dropped;
  }

  SharedFd uncache(Slot& slot) EPOCHFS_REQUIRES(mutex) {
    if (!slot.cached) return {};
    Cached& entry = cache[slot.cached];
    slot.cached = 0;
    entry.slot = 0;
    --cache_used;
    return std::move(entry.path);
  }

  SharedFd unpin(Slot& slot, uint32_t number) EPOCHFS_REQUIRES(mutex) {
    if (!slot.pinned) return {};
    slot.pinned = false;
    auto node = pinned.extract(number);
    return std::move(node.mapped());
  }

  // The open descriptor, if there is one.
  SharedFd lookup_path(const Slot& slot, uint32_t number) EPOCHFS_REQUIRES(mutex) {
    if (slot.pinned) return pinned.at(number);
    if (!slot.cached) return {};
    cache[slot.cached].recent = true;
    return cache[slot.cached].path;
  }

  // Puts a descriptor into the cache. Returns the one that had to make room.
  SharedFd keep(uint32_t number, SharedFd path) EPOCHFS_REQUIRES(mutex) {
    Slot& slot = slots[number];
    if (slot.cached || slot.pinned) return path;
    size_t place = place_in_cache();
    Cached& entry = cache[place];
    if (entry.slot) {
      slots[entry.slot].cached = 0;
      --cache_used;
    }
    SharedFd evicted = std::exchange(entry.path, std::move(path));
    entry.slot = number;
    entry.recent = false;  // used once so far; a second use makes it stay
    slot.cached = uint32_t(place);
    ++cache_used;
    return evicted;
  }

  size_t place_in_cache() EPOCHFS_REQUIRES(mutex) {
    if (cache.size() <= cache_limit) {
      cache.emplace_back();
      return cache.size() - 1;
    }
    for (;;) {
      if (hand >= cache.size()) hand = 1;
      Cached& entry = cache[hand];
      if (!entry.slot || !std::exchange(entry.recent, false)) return hand++;
      ++hand;
    }
  }
};

InodeTable::InodeTable(Inode root, size_t max_descriptors, bool keep_all)
    : root_(std::move(root)), keep_all_(keep_all), shards_(new Shard[kShards]) {
  for (size_t i = 0; i < kShards; ++i) {
    shards_[i].cache_limit = std::max<size_t>(1, max_descriptors / kShards);
  }
}

InodeTable::~InodeTable() = default;

InodeTable::Shard& InodeTable::shard_of(NodeId node) const { return shards_[node % kShards]; }

NodeId InodeTable::add(const Inode& inode) {
  if (inode.handle == root_.handle) return kRootNode;
  const size_t hash = hash_of(inode.handle);
  const size_t index = hash % kShards;
  Shard& shard = shards_[index];
  SharedFd evicted;
  Lock lock(shard.mutex);
  uint32_t number = shard.find(inode.handle, hash);
  if (!number) number = shard.insert(inode, hash);
  Slot& slot = shard.slots[number];
  ++slot.lookups;
  if (inode.path && keep_all_) {
    if (!std::exchange(slot.pinned, true)) shard.pinned[number] = inode.path;
  } else if (inode.path) {
    evicted = shard.keep(number, inode.path);
  }
  return NodeId(slot.generation) << 32 | (NodeId(number) * kShards + index);
}

void InodeTable::forget(NodeId node, uint64_t lookups) {
  if (node == kRootNode) return;
  std::pair<SharedFd, SharedFd> dropped;
  Shard& shard = shard_of(node);
  Lock lock(shard.mutex);
  Slot* slot = shard.at(node);
  if (!slot) return;
  slot->lookups -= std::min(lookups, slot->lookups);
  if (slot->lookups == 0) dropped = shard.erase(shard.number_of(node));
}

int InodeTable::find(NodeId node, Inode& out) {
  if (node == kRootNode) {
    out = root_;
    return 0;
  }
  Shard& shard = shard_of(node);
  Lock lock(shard.mutex);
  const Slot* slot = shard.at(node);
  if (!slot) return -ESTALE;
  out.id = slot->id;
  out.handle = slot->handle.get();
  out.type = slot->type;
  out.path = shard.lookup_path(*slot, shard.number_of(node));
  return 0;
}

int InodeTable::open(NodeId node, Inode& out) {
  if (int error = find(node, out); error != 0) return error;
  if (out.path) return 0;
  UniqueFd fd(open_handle(root_.fd(), out.handle, O_PATH | O_NOFOLLOW));
  if (!fd) return fd.get();
  out.path = share(std::move(fd));
  SharedFd evicted;
  Shard& shard = shard_of(node);
  Lock lock(shard.mutex);
  if (shard.at(node)) evicted = shard.keep(shard.number_of(node), out.path);
  return 0;
}

bool InodeTable::knows(const FileHandle& handle) {
  const size_t hash = hash_of(handle);
  Shard& shard = shards_[hash % kShards];
  Lock lock(shard.mutex);
  return shard.find(handle, hash) != 0;
}

void InodeTable::pin(const FileHandle& handle, SharedFd path) {
  const size_t hash = hash_of(handle);
  Shard& shard = shards_[hash % kShards];
  SharedFd uncached;
  Lock lock(shard.mutex);
  uint32_t number = shard.find(handle, hash);
  if (!number || shard.slots[number].pinned) return;
  Slot& slot = shard.slots[number];
  uncached = shard.uncache(slot);
  slot.pinned = true;
  shard.pinned[number] = std::move(path);
}

bool InodeTable::is_plain(NodeId node) const {
  if (node == kRootNode) return false;
  Shard& shard = shard_of(node);
  Lock lock(shard.mutex);
  const Slot* slot = shard.at(node);
  return slot && slot->plain;
}

void InodeTable::set_plain(NodeId node, bool plain) {
  if (node == kRootNode) return;
  Shard& shard = shard_of(node);
  Lock lock(shard.mutex);
  if (Slot* slot = shard.at(node)) slot->plain = plain;
}

size_t InodeTable::size() const {
  size_t n = 0;
  for (size_t i = 0; i < kShards; ++i) {
    const Shard& shard = shards_[i];
    Lock lock(shard.mutex);
    n += shard.count;
  }
  return n;
}

size_t InodeTable::descriptors() const {
  size_t n = 0;
  for (size_t i = 0; i < kShards; ++i) {
    const Shard& shard = shards_[i];
    Lock lock(shard.mutex);
    n += shard.cache_used;
  }
  return n;
}

}  // namespace epochfs::fs
