// Pins: which bytes and attributes must be saved before they are overwritten?
//
// Keeps the dirty files of the open epoch and of the sealed epochs that some
// relationship may still ask for, as layers (fs/recording/dirty_layers.h): each holds the
// dirty bytes of a range of epochs. A seal freezes the open layer. A pin of
// (since, epoch] names the layers of that range; until it is dropped, a mutation
// that touches what they hold saves the pre-image to the pin's log first. Layers
// that no cursor separates are merged; layers that every relationship has passed
// are dropped.
//
// What a reader of a pin's log can rely on, for a file that is dirty in its range:
// - attributes are in the log as soon as anything about the file has changed;
// - of its dirty bytes below the size at the seal, those that have been changed
//   since are in the log, before they changed;
// - a file whose last name went still opens by its handle until the pin is
//   dropped, or all of its dirty bytes are in the log;
// - or else the log says that it was given up: merge forward.
// Of what the reader has said that it passed, nothing of all that holds any more.
//
// Threads: dirty() and save() from any worker, inside the barrier's shared side.
// seal() and pin() inside a cut. Lock order: layers, then a pin's list of files,
// then one file of a pin. Two pins' files are never locked together.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include "journal/base/mutex.h"
#include <vector>

#include "fs/recording/dirty_layers.h"
#include "fs/recording/touched.h"
#include "journal/changes/byte_ranges.h"
#include "journal/changes/change_set.h"
#include "journal/preimages/preimages.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

// What one mutation may copy, or write back, at most for one pin. It stays inside the barrier
// meanwhile, so a larger pre-image would hold up every application: the pin is
// given up instead.
constexpr uint64_t kMaxSavedByOneMutation = 64 << 20;

class Pins {
 public:
  // preimages_dir: where logs are made; emptied now (a pin dies with its process).
  static Result<std::unique_ptr<Pins>> create(const journal::Volume& volume, int backing_dir);
  ~Pins();

  // Dirty state that an earlier process left: what (oldest cursor, now) changed, in
  // checkpoints, and what has changed behind them. Call it before the first mutation
  // of every mount, with an empty change set and `since` 0 for a new volume. Without
  // it the first pins save everything.
  void restore(const std::vector<journal::CheckpointPtr>& checkpoints,
               const journal::ChangeSet& changes, EpochId since) {
    layers_.restore(checkpoints, changes, since);
  }

  // The file's bytes (maybe none) or attributes have changed in the open epoch.
  void dirty(const FileId& id, ByteRange data) { layers_.dirty(id, data); }
  // Everything may have changed in the open epoch: records were lost.
  void dirty_all() { layers_.dirty_all(); }

  // Saves what pinned epochs still need of the file. Before the mutation. One
  // atomic load when nothing is pinned.
  void save(const Touched& touched) {
    if (pinned_.load(std::memory_order_acquire) != 0) save_for_pins(touched);
  }

  // The open layer becomes that of `sealed`.
  void seal(EpochId sealed) { layers_.seal(sealed); }

  class Pin;
  // Pins (since, sealed]; runs inside the barrier, right after seal(). The log is
  // made before, outside of it.
  std::shared_ptr<Pin> pin(EpochId since, EpochId sealed,
                           std::unique_ptr<journal::PreImageWriter> log);
  void unpin(const std::shared_ptr<Pin>& pin);
  Result<std::unique_ptr<journal::PreImageWriter>> make_log();

  // Cursors moved: drops and merges layers. Not inside a cut.
  void cursors_are(const std::vector<EpochId>& cursors);
  // Merges what has gathered since. After a barrier; not inside a cut.
  void compact();
  // Checkpoints that were made of layers take their place.
  void adopt(const std::vector<journal::CheckpointPtr>& checkpoints) { layers_.adopt(checkpoints); }
  // Of all pins' logs.
  uint64_t log_bytes() const;
  // f is called whenever they have grown by about so many bytes: by any worker, inside the
  // barrier, so it must be short. Before the first mutation, and (with 0) after the last.
  void when_logs_grow(uint64_t by, std::function<void()> f);
  // Gives up the pin whose log is the largest, if it has more than `least` bytes: its
  // reader merges forward, and the log's room is free when it has let go. False: none has.
  bool give_up_largest(uint64_t least);
  // Epochs that pins end with: what is folded must be split there.
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

  uint64_t growth_ = 0;  // 0: nobody wants to know
  std::function<void()> when_logs_grow_;
  std::atomic<uint64_t> told_at_{0};

  std::atomic<size_t> pinned_{0};
  mutable Mutex pins_mutex_;
  std::shared_ptr<const PinList> pins_ EPOCHFS_GUARDED_BY(pins_mutex_);  // replaced, never changed

  Mutex cursors_mutex_;
  bool cursors_known_ EPOCHFS_GUARDED_BY(cursors_mutex_) = false;
  std::vector<EpochId> cursors_ EPOCHFS_GUARDED_BY(cursors_mutex_);

  // Descriptors that pins may keep open, all together.
  std::atomic<int> descriptors_left_;
};

// One pinned range of epochs: its layers, its log, and what is saved already.
class Pins::Pin {
 public:
  ~Pin();
  EpochId sealed() const { return sealed_; }
  // The reader has read all files before `id`, in their order, and `id` up to `offset`.
  // It only ever goes forward. Any thread.
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
  // The offset from which on the file is still to be read; kEndOfFile: nothing of it.
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
