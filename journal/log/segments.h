// Segments: where does the next record go, and are the segment files up to there durable?
//
// The growing end of one volume's log, as bytes: it reserves room, makes and maps segment files
// ahead of need, syncs them, and unmaps those that are no longer appended to. It does not know
// what is written into the room that it hands out; recovery (recovery.h) has found the tail
// before, and retention (retention.h) removes old files.
//
// Threads: any, unless a function says otherwise. reserve() takes no lock while the segment is
// mapped: it moves the tail by compare-and-swap. A thread of its own makes the next segment.
// No two of the three mutexes are ever held together.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>

#include "journal/base/format.h"
#include "journal/base/mutex.h"
#include "journal/base/storage.h"
#include "journal/base/types.h"
#include "journal/base/unix.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

class Segments {
 public:
  // Goes on at `tail`: makes the segment there. Takes `dir`, the folder of the segment files;
  // borrows the rest. Errors: no position is left, no room (ENOSPC).
  static Result<std::unique_ptr<Segments>> open(Storage& storage, const Volume& volume,
                                                UniqueFd dir, Lsn tail);
  ~Segments();

  // Takes `size` bytes behind the tail for one record, which the caller then writes there, and
  // fills in its position. Null: there is no room. Blocks only while a segment is being made.
  // The room stays mapped until retire_before() a later position.
  std::byte* reserve(size_t size, Lsn& lsn);
  // To be called when what ends here was written: asks for the next segment in good time.
  void prepare_behind(Lsn end);

  // Every reservation before it was made before this was read.
  Lsn tail() const { return Lsn{tail_.load(std::memory_order_acquire)}; }

  // Returns when everything that was written before the call is durable. Calls that overlap
  // share one fdatasync of each segment.
  Result<void> sync();
  // Unmaps the segments that lie wholly before `seal`. They must be durable, nobody may be
  // writing into them, and nobody may reserve room in them any more.
  void retire_before(Lsn seal);

  // `wanted` is called when another segment has been begun, and when there was no room for one.
  // By any thread; it must be quick. Returns when nobody is in the listener before it.
  void when_segments_come(std::function<void()> wanted);
  // There is no room for the next segment, though there may be some left in this one.
  bool short_of_room() const { return short_of_room_.load(std::memory_order_relaxed); }
  // Tries again to make the next segment, now that room may have become free.
  void look_for_room();

 private:
  struct Segment {
    uint64_t index = 0;
    UniqueFd fd;
    std::byte* map = nullptr;
    uint64_t bytes = 0;

    ~Segment();
  };

  Segments(Storage& storage, const Volume& volume, UniqueFd dir, Lsn tail);
  std::byte* at(uint64_t position);
  bool prepare(uint64_t index, bool ahead = false);
  bool make_segment(uint64_t index, bool ahead) EPOCHFS_REQUIRES(prepare_mutex_);
  void prepare_ahead();

  Storage& storage_;
  const Uuid lineage_;
  const uint64_t segment_bytes_;
  const UniqueFd dir_;
  std::atomic<uint64_t> tail_;  // next free position

  // A ring of mapped segments, found by index without a lock. An entry is set and cleared with
  // prepare_mutex_ held, and the segment deleted with sync_mutex_ held. Its index is set last
  // and cleared first: a thread that does not find the index it wants looks no further.
  static constexpr uint64_t kNoSegment = UINT64_MAX;
  struct Mapped {
    std::atomic<uint64_t> index{kNoSegment};
    std::atomic<Segment*> segment{nullptr};
  };
  std::array<Mapped, kMappedSegments> mapped_;

  Mutex prepare_mutex_;
  Condition prepare_wanted_;
  uint64_t wanted_segment_ EPOCHFS_GUARDED_BY(prepare_mutex_) = 0;  // the preparer's next job
  bool stop_ EPOCHFS_GUARDED_BY(prepare_mutex_) = false;
  uint64_t first_mapped_ EPOCHFS_GUARDED_BY(prepare_mutex_);  // those before it are retired
  std::atomic<uint64_t> retry_at_ns_{0};                      // no room: not before this time again
  std::atomic<bool> short_of_room_{false};

  Mutex listener_mutex_;
  std::function<void()> segments_come_ EPOCHFS_GUARDED_BY(listener_mutex_) = [] {};

  // Group commit: a caller is served by any sync that began after it arrived.
  std::atomic<uint64_t> sync_arrivals_{0};
  Mutex sync_mutex_;
  uint64_t sync_served_ EPOCHFS_GUARDED_BY(sync_mutex_) = 0;
  uint64_t first_unsynced_ EPOCHFS_GUARDED_BY(sync_mutex_);  // segments before it are durable

  std::thread preparer_;
};

}  // namespace epochfs::journal
