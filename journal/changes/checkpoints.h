// Checkpoints: which checkpoints does a volume have? It keeps their space in proportion to what
// changed, not to how often. It adds a checkpoint behind the last one, merges neighbours that no
// boundary separates (as a log-structured tree does, so each entry is copied only few times),
// drops those that nobody needs, and makes them coarser when room is short.
//
// A boundary is an epoch since which, or up to which, somebody may ask for changes: a cursor, or
// the end of a pin. The checkpoints of a volume follow each other without a gap. None spans a
// boundary that was known when it was made.
//
// It does not decide when to do any of this (fs/housekeeping/housekeeper.h).
//
// Threads: all() and bytes() from any thread; everything else from one thread at a time.
#pragma once

#include "journal/base/mutex.h"
#include "journal/changes/checkpoint.h"
#include "journal/changes/subtrees.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// How precise a checkpoint is about the bytes of a file. Each step takes less room, and makes
// shipping read and compare more.
enum class Coarseness {
  kExact,
  kExtents,  // extents are rounded to kCoarseGrain
  kFiles,    // if any byte of a file changed, all of them count as changed
};
constexpr uint64_t kCoarseGrain = 16 << 20;

struct CheckpointPolicy {
  std::vector<EpochId> boundaries;
  // A copy of the tree is being taken that began after this epoch. It may hold names that came and
  // went since, so these stay in the checkpoints. nullopt: what cancels out is dropped.
  std::optional<EpochId> walk_since;
  Coarseness coarseness = Coarseness::kExact;
};

// The chain that ends with the newest checkpoint, oldest first, as it is on disk now. Any process.
// A checkpoint that is damaged or of a newer version is an error.
Result<std::vector<CheckpointPtr>> read_checkpoints(const Volume& volume);

// The names of all checkpoint files, whether or not they are of the chain; and one of these files.
Result<std::vector<std::string>> list_checkpoints(const Volume& volume);
Result<CheckpointPtr> open_checkpoint(const Volume& volume, const std::string& name);

class Checkpoints {
 public:
  // Removes what is not of the chain: remnants of a crash, an older chain. A damaged checkpoint is
  // removed with all before it; its error goes to `damage`. Folds that need them find a gap.
  static Result<std::unique_ptr<Checkpoints>> open(Storage& storage, const Volume& volume,
                                                   std::optional<Error>* damage = nullptr);

  std::vector<CheckpointPtr> all() const;
  uint64_t bytes() const;

  // Adds checkpoints of the epochs after the last checkpoint, or after `since` if there is none, up
  // to `until`, by folding their records. These epochs must be sealed and durable.
  Result<void> extend(EpochId since, EpochId until, const CheckpointPolicy& policy);
  // Merges neighbours where that is worth its cost.
  Result<void> compact(const CheckpointPolicy& policy);
  // Rewrites all checkpoints as coarse as the policy says. One that is a gap stays as it is.
  Result<void> coarsen(const CheckpointPolicy& policy);
  // Rewrites the checkpoints that list changes below a marked directory. The entry of the mark
  // stands for them from then on.
  Result<void> mark(const Subtrees& subtrees, const CheckpointPolicy& policy);
  // Replaces all checkpoints by one that says that anything may have changed. Where there is no
  // room even for that, by none: folds find a gap then, too.
  Result<void> forget();
  // Removes the checkpoints that end with this epoch or before it.
  Result<void> drop_up_to(EpochId oldest);

 private:
  Checkpoints(Storage& storage, const Volume& volume) : storage_(storage), volume_(volume) {}
  Result<void> add(EpochId first, EpochId last, Lsn seal, ChangeSet&& changes,
                   const CheckpointPolicy& policy);
  std::optional<size_t> mergeable(const CheckpointPolicy& policy) const;
  Result<void> merge(size_t older, const CheckpointPolicy& policy);
  void replace(size_t at, CheckpointPtr checkpoint);
  Result<void> mark_one(size_t at, const Subtrees& subtrees, const CheckpointPolicy& policy);
  Result<void> remove(const CheckpointPtr& checkpoint);

  Storage& storage_;
  const Volume& volume_;
  UniqueFd dir_;
  mutable Mutex mutex_;
  std::vector<CheckpointPtr> all_ EPOCHFS_GUARDED_BY(mutex_);
};

}  // namespace epochfs::journal
