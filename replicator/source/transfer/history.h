// History: what may source and target take for the same, although either host may have been put
// back to an earlier snapshot? After that, epochs and LSNs are given out once more, for other
// changes. So nothing is taken for the same by its number alone: an epoch counts by its entry in
// the journal's manifest. Two histories cannot share an entry that was sealed after they parted,
// since it holds the time of its barrier in nanoseconds. DESIGN.md lists the cases.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "journal/volume/epochs.h"
#include "journal/volume/volume.h"
#include "replicator/relationship/relationship.h"

namespace epochfs::replicator {

// The manifest's entry of exactly this epoch. nullopt: there is none. Errors: as read_epoch().
Result<std::optional<journal::SealedEpoch>> sealed_epoch(const journal::Volume& volume,
                                                         EpochId epoch);

// The state hash of a target that had `before`, after `epoch` was applied to it. Never 0, which
// means that nothing was applied yet.
uint64_t state_hash_after(uint64_t before, const std::string& relationship, const Uuid& lineage,
                          const journal::SealedEpoch& epoch);

// What the target says when a session is opened.
struct TargetHolds {
  EpochId cursor{};
  uint64_t state_hash = 0;
};

enum class Conclusion {
  kSame,                 // it holds what the source believes
  kAcknowledgementLost,  // after that it has applied one more epoch of exactly this history
  kUnknownEpoch,         // the journal never sealed the epoch that it holds, or sealed another one
  kAnotherState,         // the epoch is known, but the states before it differ
};

// What follows from what the target holds. `sealed`: the manifest's entry of the target's cursor.
Conclusion conclude(const Relationship& known, const TargetHolds& target,
                    const std::optional<journal::SealedEpoch>& sealed);
// Why everything has to be compared, for status. The conclusion is one of the last two.
std::string reason_of(Conclusion conclusion, const TargetHolds& target);

// Names the bytes of files for the target: equal versions of one file mean equal bytes.
class Versions {
 public:
  // Of what changed in these epochs, which follow each other.
  explicit Versions(std::vector<journal::SealedEpoch> epochs) : epochs_(std::move(epochs)) {}
  // Of what changed in (since, until].
  static Result<Versions> read(const journal::Volume& volume, EpochId since, EpochId until);

  // The version of bytes whose newest change is this record. 0: none; nobody knows.
  uint64_t of(Lsn newest_change) const;

 private:
  std::vector<journal::SealedEpoch> epochs_;
};

}  // namespace epochfs::replicator
