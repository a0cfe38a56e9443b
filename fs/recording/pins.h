// Pins: which bytes and attributes must be saved before they are overwritten?
//
// Keeps the dirty files of the open epoch, and of the sealed epochs that a relationship may still
// ask for, as layers (dirty_layers.h): each holds the dirty bytes of a range of epochs. A pin of
// (since, epoch] names the layers of that range. Until it is dropped, a mutation that touches what
// they hold first saves the pre-image to the pin's log.
//
// A reader of a pin's log can rely on this, for a file that is dirty in the pin's range:
// - attributes are in the log as soon as anything about the file has changed;
// - dirty bytes below the size at the seal are in the log before they change;
// - a file whose last name went still opens by its handle until the pin is dropped, or all of its
//   dirty bytes are in the log;
// - if one of these fails, the log says that it was given up: merge forward.
// None of this holds any more for what the reader has said that it passed.
//
// Threads: dirty() and save() from any worker, inside the barrier's shared side. seal() and pin()
// inside a cut. Lock order: layers, then a pin's list of files, then one file of a pin. Files of
// two pins are never locked together.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "fs/recording/dirty_layers.h"
#include "fs/recording/touched.h"
#include "journal/base/mutex.h"
#include "journal/changes/byte_ranges.h"
#include "journal/changes/change_set.h"
#include "journal/preimages/preimages.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

// The most that one mutation may copy, or write back, for one pin. It stays inside the barrier
// meanwhile, so a larger pre-image would hold up every application. The pin is given up instead.
constexpr uint64_t kMaxSavedByOneMutation = 64 << 20;

class Pins {
 public:
  // Empties the volume's folder of logs, since a pin dies with its process. backing_dir is
  // borrowed.
  static Result<std::unique_ptr<Pins>> create(const journal::Volume& volume, int backing_dir);
  ~Pins();

  // Takes over the dirty state that an earlier process left: what changed since the oldest cursor,
  // in checkpoints, and `changes` behind those. Call it before the first mutation of every mount,
  // with an empty change set and `since` 0 for a new volume. Without it, the first pins save
  // everything.
  void restore(const std::vector<journal::CheckpointPtr>& checkpoints,
               const journal::ChangeSet& changes, EpochId since) {
    layers_.restore(checkpoints, changes, since);
  }

  // The file has changed in the open epoch: these bytes (maybe none), or attributes.
  void dirty(const FileId& id, ByteRange data) { layers_.dirty(id, data); }
  // Everything may have changed in the open epoch: records were lost.
  void dirty_all() { layers_.dirty_all(); }

  // Saves what pinned epochs still need of the file. Call it before the mutation. Costs one atomic
  // load when nothing is pinned.
  void save(const Touched& touched) {
    if (pinned_.load(std::memory_order_acquire) != 0) save_for_pins(touched);
  }

  // The open layer becomes that of `sealed`.
  void seal(EpochId sealed) { layers_.seal(sealed); }

  class Pin;
  // Pins (since, sealed]. Call it inside the barrier, right after seal(), with a log that was made
  // before, outside of it.
  std::shared_ptr<Pin> pin(EpochId since, EpochId sealed,
                           std::unique_ptr<journal::PreImageWriter> log);
  void unpin(const std::shared_ptr<Pin>& pin);
  Result<std::unique_ptr<journal::PreImageWriter>> make_log();

  // Cursors moved: drops layers that every relationship has passed, and merges those that no cursor
  // separates. Not inside a cut.
  void cursors_are(const std::vector<EpochId>& cursors);
  // Merges layers that have come since. After a barrier; not inside a cut.
  void compact();
  // These checkpoints replace the layers that they were made of.
  void adopt(const std::vector<journal::CheckpointPtr>& checkpoints) { layers_.adopt(checkpoints); }
  // The size of all pins' logs.
  uint64_t log_bytes() const;
  // Calls f whenever the logs have grown by about that many bytes. Any worker calls it, inside the
  // barrier, so it must be short. Set it before the first mutation, and clear it (with 0) after
  // the last.
  void when_logs_grow(uint64_t by, std::function<void()> f);
  // Gives up the pin with the largest log, if that has more than `least` bytes. Its reader merges
  // forward, and the log's room is free once the reader has let go. False: there is no such pin.
  bool give_up_largest(uint64_t least);
  // The last epochs of all pins. Checkpoints must be split there.
  std::vector<EpochId> ends() const;

  size_t layers() const { return layers_.frozen(); }  // frozen ones

 private:
  using PinList = std::vector<std::shared_ptr<Pin>>;

  Pins(UniqueFd logs_dir, int backing_dir);
  void save_for_pins(const Touched& touched);
  void tell_of_growth(uint64_t log_bytes);
  std::shared_ptr<const PinList> list() const;

  UniqueFd logs_dir_;
  const int backing_dir_;
  DirtyLayers layers_;
  std::atomic<uint64_t> logs_made_{0};

  uint64_t growth_ = 0;  // 0: when_logs_grow_ is not called
  std::function<void()> when_logs_grow_;
  std::atomic<uint64_t> told_at_{0};

  std::atomic<size_t> pinned_{0};
  mutable Mutex pins_mutex_;
  std::shared_ptr<const PinList> pins_ EPOCHFS_GUARDED_BY(pins_mutex_);  // replaced, never changed

  Mutex cursors_mutex_;
  bool cursors_known_ EPOCHFS_GUARDED_BY(cursors_mutex_) = false;
  std::vector<EpochId> cursors_ EPOCHFS_GUARDED_BY(cursors_mutex_);

  // How many more descriptors all pins together may keep open.
  std::atomic<int> descriptors_left_;
};

// One pinned range of epochs: its layers, its log, and what is saved already.
class Pins::Pin {
 public:
  ~Pin();
  EpochId sealed() const { return sealed_; }
  // The reader has read all files before `id`, in their order, and `id` up to `offset`. It only
  // moves forward. Any thread.
  void passed(const FileId& id, uint64_t offset);
  int log_fd() const { return log_->fd(); }  // readable by a PreImageReader
  bool given_up() const { return log_->given_up(); }
  uint64_t log_bytes() const { return log_->bytes(); }

 private:
  friend class Pins;
  // One file that has been touched since the seal.
  struct File {
    Mutex mutex;
    bool attributes_saved EPOCHFS_GUARDED_BY(mutex) = false;
    bool regular EPOCHFS_GUARDED_BY(mutex) = false;
    uint64_t size EPOCHFS_GUARDED_BY(mutex) = 0;  // at the seal
    journal::ByteRanges saved EPOCHFS_GUARDED_BY(mutex);
    // For reading; kept if the limit on descriptors allows it.
    UniqueFd fd EPOCHFS_GUARDED_BY(mutex);
  };
  struct alignas(64) Shard {
    Mutex mutex;
    std::unordered_map<FileId, std::unique_ptr<File>> files EPOCHFS_GUARDED_BY(mutex);
  };

  Pin(DirtyLayers::Changes changes, EpochId sealed, std::unique_ptr<journal::PreImageWriter> log,
      int backing_dir, std::atomic<int>& descriptors_left);
  void save(const Touched& touched);
  bool is_dirty(const FileId& id) const;
  // The offset from which the reader still needs the file; kEndOfFile: it needs none of it.
  uint64_t needed_from(const FileId& id) const;
  journal::ByteRanges dirty_within(const FileId& id, ByteRange range) const;
  File& file(const FileId& id);
  Result<void> save_attributes(const Touched& touched, File& file) EPOCHFS_REQUIRES(file.mutex);
  Result<void> save_data(const Touched& touched, File& file, ByteRange range)
      EPOCHFS_REQUIRES(file.mutex);
  Result<void> save_range(const Touched& touched, int fd, ByteRange range, uint64_t& budget);
  Result<void> copy_range(const FileId& id, int fd, ByteRange range, uint64_t& budget);
  bool share(const Touched& touched, int fd, ByteRange range);
  Result<void> keep_readable(const Touched& touched, File& file) EPOCHFS_REQUIRES(file.mutex);
  Result<void> open_for_reading(const Touched& touched, File& file) EPOCHFS_REQUIRES(file.mutex);
  void close_if_too_many(File& file) EPOCHFS_REQUIRES(file.mutex);

  const DirtyLayers::Changes changes_;
  const EpochId sealed_;
  const std::unique_ptr<journal::PreImageWriter> log_;
  const int backing_dir_;
  std::atomic<int>& descriptors_left_;
  std::array<Shard, DirtyLayers::kShards> shards_;
  mutable Mutex passed_mutex_;  // a leaf
  FileId passed_ EPOCHFS_GUARDED_BY(passed_mutex_);
  uint64_t passed_offset_ EPOCHFS_GUARDED_BY(passed_mutex_) = 0;
};

}  // namespace epochfs::fs
