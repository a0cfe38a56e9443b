// HandleTable: which open file or directory does the kernel's file handle mean?
//
// A handle is an index, never a pointer. at() takes no lock: a handle is in the table before the
// kernel learns of it, and leaves only after the kernel has sent its last request for it.
//
// Threads: every method from any thread. The objects do their own locking.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "journal/base/mutex.h"
#include "journal/base/result.h"

namespace epochfs::fs {

template <typename T>
class HandleTable {
 public:
  ~HandleTable() {
    for (auto& chunk : chunks_) {
      Chunk* entries = chunk.load();
      if (!entries) continue;
      for (auto& entry : *entries) delete entry.load();
      delete entries;
    }
  }

  // Owns the object from now on, and returns its handle. There is room for 16 million objects,
  // more than a process can have descriptors.
  uint64_t add(std::unique_ptr<T> object) {
    Lock lock(mutex_);
    if (free_.empty()) add_chunk();
    uint64_t handle = free_.back();
    free_.pop_back();
    entry(handle)->store(object.release(), std::memory_order_release);
    return handle;
  }

  // Null: there is no such handle. The table still owns the object.
  T* at(uint64_t handle) const {
    auto* slot = entry(handle);
    return slot ? slot->load(std::memory_order_acquire) : nullptr;
  }

  // Gives the object up. Null: there is no such handle.
  std::unique_ptr<T> take(uint64_t handle) {
    auto* slot = entry(handle);
    if (!slot) return nullptr;
    std::unique_ptr<T> object(slot->exchange(nullptr, std::memory_order_acq_rel));
    if (object) {
      Lock lock(mutex_);
      free_.push_back(handle);
    }
    return object;
  }

  size_t size() const {
    Lock lock(mutex_);
    return used_ * kChunkSize - free_.size();
  }

 private:
  static constexpr size_t kChunkSize = 1024;
  static constexpr size_t kChunks = 16 << 10;
  using Chunk = std::array<std::atomic<T*>, kChunkSize>;

  std::atomic<T*>* entry(uint64_t handle) const {
    if (handle >= kChunks * kChunkSize) return nullptr;
    Chunk* chunk = chunks_[handle / kChunkSize].load(std::memory_order_acquire);
    return chunk ? &(*chunk)[handle % kChunkSize] : nullptr;
  }

  void add_chunk() EPOCHFS_REQUIRES(mutex_) {
    EPOCHFS_CHECK(used_ < kChunks);
    chunks_[used_].store(new Chunk{}, std::memory_order_release);
    // Low handles first: free_ is a stack.
    for (size_t i = kChunkSize; i-- > 0;) free_.push_back(used_ * kChunkSize + i);
    ++used_;
  }

  std::array<std::atomic<Chunk*>, kChunks> chunks_{};
  mutable Mutex mutex_;
  size_t used_ EPOCHFS_GUARDED_BY(mutex_) = 0;  // chunks
  std::vector<uint64_t> free_ EPOCHFS_GUARDED_BY(mutex_);
};

}  // namespace epochfs::fs
