// DirtyLayers: which bytes of which files changed in which epochs?
//
// The open layer takes what changes now; a seal freezes it, in time that depends
// on no number of files. A frozen layer never changes again, so that whoever
// holds it reads it without a lock. Layers that no boundary (a cursor, a pin's
// end) separates are merged, by copying, in the way of a log-structured tree:
// their number stays logarithmic, and every entry is copied few times. What lies
// before every cursor is dropped. Too much is always right here, too little never.
//
// It knows files by identity only, reads none of them, and is not durable: after
// a restart the journal's checkpoints and records fill it again. Where a checkpoint
// has been made of frozen layers, it takes their place.
//
// Memory: about 80 bytes a file with one dirty range, which is nearly every file, and 64
// more for each where there are several, counted once for each layer that holds it; of checkpoints,
// none but the kernel's cache.
//
// Threads: dirty() and dirty_all() from any, inside the barrier's shared side;
// restore() before them; seal() inside a cut; the rest from any.
// Lock order: compact_mutex_, then mutex_, then a shard's.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>
#include "journal/base/mutex.h"

#include "journal/changes/byte_ranges.h"
#include "journal/changes/checkpoint.h"

namespace epochfs::fs {

class DirtyLayers {
 public:
  static constexpr size_t kShards = 64;
  static size_t shard_of(const FileId& id);

  // Dirty files of the epochs [first, last], frozen.
  class Layer {
   public:
    EpochId first{}, last{};
    bool all = false;  // records were lost: every file counts, in every byte

    // The file is dirty, if only in its attributes.
    bool contains(const FileId& id) const;
    // Adds to `out` the part of `range` in which the file is dirty.
    void add_dirty(const FileId& id, ByteRange range, journal::ByteRanges& out) const;
    size_t files() const;
    bool is_checkpoint() const { return checkpoint_ != nullptr; }

   private:
    friend class DirtyLayers;
    using Map = std::unordered_map<FileId, journal::ByteRanges>;
    std::array<Map, kShards> shards_;
    journal::CheckpointPtr checkpoint_;  // in their place
  };
  using LayerPtr = std::shared_ptr<const Layer>;

  // Takes in what (since, now] changed before this process, the open epoch
  // included: checkpoints that begin right behind `since`, and what has changed
  // behind them. Without it, what changed up to the first seal counts as unknown.
  void restore(const std::vector<journal::CheckpointPtr>& checkpoints,
               const journal::ChangeSet& changes, EpochId since);

  // These checkpoints take the place of the frozen layers that they cover.
  void adopt(const std::vector<journal::CheckpointPtr>& checkpoints);

  void dirty(const FileId& id, ByteRange data);
  void dirty_all() { open_all_.store(true, std::memory_order_relaxed); }

  void seal(EpochId sealed);

  // What changed in (since, newest seal].
  struct Changes {
    bool unknown = false;  // the layers do not reach back that far: everything counts
    std::vector<LayerPtr> layers;
  };
  Changes changes_since(EpochId since) const;

  // Drops what lies before the oldest cursor (everything frozen, without one),
  // and merges what no boundary separates. Takes time; not inside a cut.
  void compact(const std::vector<EpochId>& cursors, const std::vector<EpochId>& boundaries);

  size_t frozen() const;

 private:
  struct alignas(64) OpenShard {
    Mutex mutex;
    Layer::Map files EPOCHFS_GUARDED_BY(mutex);
  };
  static LayerPtr layer_of(const journal::CheckpointPtr& checkpoint);
  void drop_before(std::optional<EpochId> oldest) EPOCHFS_REQUIRES(compact_mutex_);
  std::optional<std::pair<LayerPtr, LayerPtr>> mergeable(
      const std::vector<EpochId>& boundaries) const;
  static LayerPtr merge(const Layer& older, const Layer& newer);

  std::array<OpenShard, kShards> open_;
  std::atomic<bool> open_all_{false};

  Mutex compact_mutex_;
  mutable Mutex mutex_;
  // Made ahead, so that a cut does not allocate it.
  std::shared_ptr<Layer> spare_ EPOCHFS_GUARDED_BY(mutex_);
  std::vector<LayerPtr> frozen_ EPOCHFS_GUARDED_BY(mutex_);  // ascending, without gaps
  // All changes after this epoch are in the layers. Unset: not even those of the open epoch are.
  std::optional<EpochId> known_since_ EPOCHFS_GUARDED_BY(mutex_);
};

}  // namespace epochfs::fs
