// DirtyLayers: which bytes of which files changed in which epochs?
//
// The open layer takes what changes now. A seal freezes it, in time that does not depend on the
// number of files. A frozen layer never changes again, so its holder reads it without a lock.
// Layers that no boundary (a cursor, a pin's end) separates are merged by copying, as in a
// log-structured tree: their number stays logarithmic, and every entry is copied few times.
// Layers before every cursor are dropped. To name too much is always right here, too little never.
//
// It knows files only by identity, reads none of them, and is not durable: after a restart the
// journal's checkpoints and records fill it again. A checkpoint made of frozen layers replaces
// them.
//
// Memory, for each layer that holds a file: about 80 bytes for a file with one dirty range, as
// nearly all have, and 64 more for each range where there are several. Checkpoints take only the
// kernel's cache.
//
// Threads: dirty() and dirty_all() from any, inside the barrier's shared side; restore() before
// them; seal() inside a cut; the rest from any.
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
    bool all = false;  // records were lost: every byte of every file counts

    // The file is dirty, even if only in its attributes.
    bool contains(const FileId& id) const;
    // Adds to `out` the part of `range` in which the file is dirty.
    void add_dirty(const FileId& id, ByteRange range, journal::ByteRanges& out) const;
    size_t files() const;
    bool is_checkpoint() const { return checkpoint_ != nullptr; }

   private:
    friend class DirtyLayers;
    using Map = std::unordered_map<FileId, journal::ByteRanges>;
    std::array<Map, kShards> shards_;
    journal::CheckpointPtr checkpoint_;  // instead of shards_
  };
  using LayerPtr = std::shared_ptr<const Layer>;

  // Takes in what changed in (since, now] before this process began, including the open epoch:
  // checkpoints that begin right behind `since`, and `changes` behind those. Without this call,
  // what changed up to the first seal counts as unknown.
  void restore(const std::vector<journal::CheckpointPtr>& checkpoints,
               const journal::ChangeSet& changes, EpochId since);

  // These checkpoints replace the frozen layers that they cover.
  void adopt(const std::vector<journal::CheckpointPtr>& checkpoints);

  void dirty(const FileId& id, ByteRange data);
  void dirty_all() { open_all_.store(true, std::memory_order_relaxed); }

  void seal(EpochId sealed);

  // What changed in (since, newest seal].
  struct Changes {
    bool unknown = false;  // the layers do not reach back that far: every byte counts
    std::vector<LayerPtr> layers;
  };
  Changes changes_since(EpochId since) const;

  // Drops layers before the oldest cursor (without a cursor, all frozen ones), and merges layers
  // that no boundary separates. Takes time; not inside a cut.
  void compact(const std::vector<EpochId>& cursors, const std::vector<EpochId>& boundaries);

  size_t frozen() const;  // layers

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
