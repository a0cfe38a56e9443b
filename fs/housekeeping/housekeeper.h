// Housekeeper: how does the journal's space depend on what changed, and not on how often?
//
// A thread of its own wakes up for every new segment, when pre-images have grown, and when cursors
// have moved:
// - It seals an epoch that grows past a segment, so that there is something to fold.
// - Once the records that may still be needed fill a segment, it folds them into checkpoints
//   (journal/changes/checkpoints.h). The pins then use those instead of what they hold in memory.
//   So the change set bounds both journal and memory.
// - It removes segments that are not needed any more, except for what is to be kept for inspection.
//   If they hold changes that are not settled yet, it settles them first (settler.h).
// - A quota, or a full disk, makes it keep less and tell less (Pressure).
//
// Applications never wait for it, unless the administrator chose that.
//
// Threads: any may call; pass() runs in one at a time.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "fs/base/housekeeping_options.h"
#include "fs/housekeeping/settler.h"
#include "fs/recording/pins.h"
#include "fs/recording/recorder.h"
#include "journal/base/mutex.h"
#include "journal/changes/checkpoints.h"
#include "journal/log/journal.h"
#include "journal/volume/cursors.h"

namespace epochfs::fs {

// How much is still told of what changed when room is short. Each step frees more than the one
// before it.
enum class Pressure {
  kNone,
  kNear,      // nine tenths of the quota: only what was kept for inspection is given up
  kExtents,   // changed extents are rounded to 16 MiB
  kFiles,     // a file that changed counts as changed in every byte
  kSubtrees,  // of some directories, only that something below changed (journal/changes/subtrees.h)
  kTree,      // anything may have changed: relationships compare source and target
};
const char* pressure_name(Pressure pressure);

struct HousekeepingStatus {
  uint64_t segment_bytes = 0, checkpoint_bytes = 0, pre_image_bytes = 0;
  uint64_t quota_bytes = 0;
  Pressure pressure = Pressure::kNone;
  uint64_t since_ns = 0;     // when the pressure became what it is
  bool blocking = false;     // applications wait for room
  uint64_t checkpoints = 0;  // how many there are
  std::string error;         // of the last pass; empty: it did everything

  uint64_t bytes() const { return segment_bytes + checkpoint_bytes + pre_image_bytes; }
};

class Housekeeper {
 public:
  // All must outlive it.
  Housekeeper(journal::Volume& volume, int backing_dir, journal::Journal& journal,
              Recorder& recorder, Pins& pins, journal::Checkpoints& checkpoints, Settler& settler,
              const HousekeepingOptions& options);
  ~Housekeeper();

  void start();
  // There may be something to do. Any thread; never takes long.
  void wake();
  // From now on no application waits for room, since the mount is to end.
  void stop_blocking();
  // Cursors were moved, made or removed: lets go of what is not needed any more.
  Result<void> cursors_changed();
  // One round, in the caller's thread. After start() there are rounds in its own thread, too.
  Result<void> pass();

  HousekeepingStatus status() const;

 private:
  void run();
  Result<journal::CursorMap> tell_pins();
  Result<void> keep_house() EPOCHFS_REQUIRES(pass_mutex_);
  struct Known;
  Result<std::optional<Known>> look();
  Result<void> fold_what_is_sealed(const Known& known) EPOCHFS_REQUIRES(pass_mutex_);
  Result<EpochId> release(EpochId oldest) EPOCHFS_REQUIRES(pass_mutex_);
  Result<void> relieve(Known known) EPOCHFS_REQUIRES(pass_mutex_);
  void note_pressure_of(uint64_t bytes) EPOCHFS_REQUIRES(pass_mutex_);

  // The ladder of relieve().
  struct Step;
  static const Step kCostsNobody[], kTellsLess[];
  Result<bool> climb(std::span<const Step> ladder, Known& known, bool over)
      EPOCHFS_REQUIRES(pass_mutex_);
  Result<bool> keep_nothing_for_inspection(Known&) EPOCHFS_REQUIRES(pass_mutex_);
  Result<bool> fold_open_epoch(Known& known) EPOCHFS_REQUIRES(pass_mutex_);
  Result<bool> give_up_pin_above_half_the_quota(Known&) EPOCHFS_REQUIRES(pass_mutex_);
  template <Pressure kStep>
  Result<bool> coarsen(Known& known) EPOCHFS_REQUIRES(pass_mutex_);
  Result<bool> give_up_pin(Known&) EPOCHFS_REQUIRES(pass_mutex_);
  Result<bool> mark_subtrees(Known& known) EPOCHFS_REQUIRES(pass_mutex_);
  Result<bool> forget_tree(Known&) EPOCHFS_REQUIRES(pass_mutex_);

  bool is_worth_telling_less() const;
  journal::CheckpointPolicy policy(const journal::CursorMap& cursors) const
      EPOCHFS_REQUIRES(pass_mutex_);
  Result<uint64_t> measure();
  bool is_over(uint64_t bytes) const;
  void set_pressure(Pressure pressure) EPOCHFS_REQUIRES(pass_mutex_);

  journal::Volume& volume_;
  const int backing_dir_;
  journal::Journal& journal_;
  Recorder& recorder_;
  Pins& pins_;
  journal::Checkpoints& checkpoints_;
  Settler& settler_;
  const HousekeepingOptions options_;

  std::atomic<bool> may_block_;
  Mutex pass_mutex_;
  Pressure pressure_ EPOCHFS_GUARDED_BY(pass_mutex_) = Pressure::kNone;
  // Whether segments could be settled, in this pass.
  Result<void> settled_ EPOCHFS_GUARDED_BY(pass_mutex_);

  mutable Mutex status_mutex_;
  HousekeepingStatus status_ EPOCHFS_GUARDED_BY(status_mutex_);

  Mutex mutex_;
  Condition woken_;
  bool wanted_ EPOCHFS_GUARDED_BY(mutex_) = false;
  bool stop_ EPOCHFS_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace epochfs::fs
