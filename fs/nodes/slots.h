// Slots: where do the entries of a table live, so that their memory goes back to the system?
//
// In chunks. A walk over a large tree fills many of them; once the kernel has forgotten those
// files, a chunk without a used slot gives its pages back. It keeps its place, and the
// generation that its slots go on with. One such chunk is spared, so that a file that comes and
// goes costs no system calls.
//
// Numbers begin at 1: 0 means none.
//
// Threads: none of its own; its user locks.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "journal/base/result.h"

namespace epochfs::fs {

// Slot has `generation`, which is never the same for two uses of one number, and `next`, which
// is free for use while the slot is not in use. kMost bounds the numbers.
template <typename Slot, uint32_t kMost>
class Slots {
 public:
  Slots() = default;
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;
  ~Slots() {
    for (Chunk& chunk : chunks_) {
      std::destroy_n(chunk.slots, chunk.made);
      ::munmap(chunk.slots, kChunkBytes);
    }
  }

  // A slot that is, or was, in use.
  Slot& operator[](uint32_t number) { return slot(chunk_of(number), number); }

  // Null: there is none with this number now.
  Slot* find(uint64_t number) {
    if (number == 0 || number > chunks_.size() * kPerChunk) return nullptr;
    Chunk& chunk = chunk_of(uint32_t(number));
    return place_of(uint32_t(number)) < chunk.made ? &slot(chunk, uint32_t(number)) : nullptr;
  }

  uint32_t take() {
    if (available_.empty()) add_chunk();
    const uint32_t index = available_.back();
    Chunk& chunk = chunks_[index];
    uint32_t number = chunk.free;
    if (number) {
      chunk.free = slot(chunk, number).next;
    } else {
      number = index * kPerChunk + ++chunk.made;
      new (&slot(chunk, number)) Slot{.generation = chunk.generation};
    }
    if (++chunk.used == kPerChunk) available_.pop_back();
    return number;
  }

  void give_back(uint32_t number) {
    Chunk& chunk = chunk_of(number);
    Slot& freed = slot(chunk, number);
    chunk.generation = std::max(chunk.generation, ++freed.generation);
    freed.next = chunk.free;
    chunk.free = number;
    const uint32_t index = uint32_t(&chunk - chunks_.data());
    if (chunk.used-- == kPerChunk) available_.push_back(index);
    if (chunk.used != 0) return;
    const uint32_t spared = std::exchange(spared_, index);
    if (spared != index && chunks_[spared].used == 0) empty(chunks_[spared]);
  }

 private:
  static constexpr size_t kChunkBytes = 64 << 10;
  static constexpr uint32_t kPerChunk = kChunkBytes / sizeof(Slot);

  struct Chunk {
    Slot* slots = nullptr;  // mapped: malloc(3) would not return it
    uint32_t made = 0;      // how many exist; pages behind them are untouched
    uint32_t used = 0;
    uint32_t free = 0;        // the first slot that exists and is not used
    uint32_t generation = 0;  // greater than that of any slot given back
  };

  // Numbers begin at 1.
  static uint32_t place_of(uint32_t number) { return (number - 1) % kPerChunk; }
  static Slot& slot(Chunk& chunk, uint32_t number) { return chunk.slots[place_of(number)]; }
  Chunk& chunk_of(uint32_t number) { return chunks_[(number - 1) / kPerChunk]; }

  void add_chunk() {
    EPOCHFS_CHECK((chunks_.size() + 1) * kPerChunk < kMost);
    void* at =
        ::mmap(nullptr, kChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    available_.push_back(uint32_t(chunks_.size()));
    chunks_.push_back({.slots = static_cast<Slot*>(at)});
  }

  static void empty(Chunk& chunk) {
    std::destroy_n(chunk.slots, chunk.made);
    chunk.made = chunk.free = 0;
    // Not unmapped: with gaps between them, each mapping would count towards the number that a
    // process may have.
    ::madvise(chunk.slots, kChunkBytes, MADV_DONTNEED);
  }

  std::vector<Chunk> chunks_;
  std::vector<uint32_t> available_;  // chunks that have room
  uint32_t spared_ = 0;              // the chunk that was last without a used slot
};

}  // namespace epochfs::fs
