// Checkpoints: which checkpoints does a volume have, and how does their space follow
// what changed, and not how often? Adds one behind the last, merges neighbours that no
// boundary separates (as a log-structured tree does: every entry is copied few times),
// drops those that nobody needs, makes them coarser where room is short.
//
// A boundary is an epoch that somebody may ask the changes since, or up to: a cursor,
// or the end of a pin. Checkpoints of a volume follow each other without a gap between
// them, and none spans a boundary that was known when it was made.
//
// Threads: the one that keeps house changes them; all() from any.
#pragma once

#include <mutex>

#include "journal/changes/checkpoint.h"
#include "journal/changes/subtrees.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// How much a checkpoint tells of each file. Every step takes less room, and has more
// read and compared when it is shipped.
enum class Coarseness {
  kExact,
  kExtents,  // extents are rounded to kCoarseGrain
  kFiles,    // a file whose bytes changed has changed in all of them
};
constexpr uint64_t kCoarseGrain = 16 << 20;

struct CheckpointPolicy {
  std::vector<EpochId> boundaries;
  // A copy of the tree is being taken that began behind this epoch, and may hold names
  // that came and went since: they stay. None: what cancels out leaves nothing behind.
  std::optional<EpochId> walk_since;
  Coarseness coarseness = Coarseness::kExact;
};

// The chain of checkpoints that ends with the newest, oldest first, as it is on disk now.
// Any process. Damaged or newer ones are errors.
Result<std::vector<CheckpointPtr>> read_checkpoints(const Volume& volume);

// Names of all checkpoint files there are, and one of them.
Result<std::vector<std::string>> list_checkpoints(const Volume& volume);
Result<CheckpointPtr> open_checkpoint(const Volume& volume, const std::string& name);

class Checkpoints {
 public:
  // What is superfluous (remnants of a crash, an older chain) is removed. A damaged file
  // is removed, too, with those before it: whoever needs them finds a gap. Its error goes
  // to `damage`.
  static Result<std::unique_ptr<Checkpoints>> open(Storage& storage, const Volume& volume,
                                                   std::optional<Error>* damage = nullptr);

  std::vector<CheckpointPtr> all() const;
  uint64_t bytes() const;

  // Folds the records of the epochs behind the last checkpoint (behind `since`, without
  // one) up to `until`, all of them sealed and durable.
  Result<void> extend(EpochId since, EpochId until, const CheckpointPolicy& policy);
  // Merges.
  Result<void> compact(const CheckpointPolicy& policy);
  // Writes those anew that tell more than the policy wants.
  Result<void> coarsen(const CheckpointPolicy& policy);
  // Writes those anew that tell of what lies below a mark. They tell it no more, but that
  // the mark stands for it.
  Result<void> mark(const Subtrees& subtrees, const CheckpointPolicy& policy);
  // Puts one that only says that anything may have changed in the place of all. Where
  // there is no room even for that, none: then nobody knows either.
  Result<void> forget();
  // Removes those that end with this epoch or before it.
  Result<void> drop_up_to(EpochId oldest);

 private:
  Checkpoints(Storage& storage, const Volume& volume) : storage_(storage), volume_(volume) {}
  Result<void> add(EpochId first, EpochId last, Lsn seal, ChangeSet&& changes,
                   const CheckpointPolicy& policy);
  std::optional<size_t> mergeable(const CheckpointPolicy& policy) const;
  Result<void> merge(size_t older, const CheckpointPolicy& policy);
  Result<void> mark_one(size_t at, const Subtrees& subtrees, const CheckpointPolicy& policy);
  Result<void> remove(const CheckpointPtr& checkpoint);

  Storage& storage_;
  const Volume& volume_;
  UniqueFd dir_;
  mutable std::mutex mutex_;
  std::vector<CheckpointPtr> all_;
};

}  // namespace epochfs::journal
