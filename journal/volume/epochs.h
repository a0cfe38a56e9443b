// Epochs: which epochs are sealed, when, and where do their records end? The
// manifest `epochs` holds one fixed-size entry for each sealed epoch, in order,
// appended by the barrier. Layout in FORMAT.md.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "journal/base/format.h"
#include "journal/base/storage.h"
#include "journal/base/types.h"
#include "journal/base/unix.h"

namespace epochfs::journal {

struct SealedEpoch {
  EpochId epoch{};
  uint64_t barrier_ns = 0;  // wall clock of the barrier
  Lsn begin{};              // of the first record that can belong to it
  Lsn seal{};               // of its kSeal record
  uint64_t records = 0;     // mutations in it

  bool operator==(const SealedEpoch&) const = default;
};

// Reads the manifest, from the first entry that was not let go of. A torn last entry is left
// out; damage before it is an error of status kCorrupt.
Result<std::vector<SealedEpoch>> read_epochs(int volume_dir);
// The newest entry at or before `epoch`, without reading the rest; nullopt: there is none, or
// it was let go of.
Result<std::optional<SealedEpoch>> read_epoch(int volume_dir, EpochId epoch);
Result<std::optional<SealedEpoch>> read_last_epoch(int volume_dir);
// The entry itself, of an open manifest; nullopt: it is damaged, or not there.
Result<std::optional<SealedEpoch>> read_epoch_entry(int manifest, EpochId epoch);
// The first epoch whose entry was not let go of.
Result<EpochId> first_kept_epoch(int manifest);

// Appends. One writer a volume.
class EpochManifest {
 public:
  static Result<EpochManifest> open(Storage& storage, int volume_dir);
  // Appends the epochs that follow the newest one, in order and without gaps
  // (checked: aborts). Returns after fdatasync. After an error, append the same
  // again.
  Result<void> append(std::span<const SealedEpoch> entries);
  // Gives the room of entries before `oldest_needed` back, but for the newest `keep` and what
  // shares a block with them. Not durable: some may be there again after a power loss. May
  // run beside append().
  Result<void> let_go_before(EpochId oldest_needed, uint64_t keep = kKeptEpochs);
  // Drops entries after `last`; recovery only.
  Result<void> truncate_after(EpochId last);

 private:
  Storage* storage_ = nullptr;
  UniqueFd fd_;
  EpochId last_{};
  uint64_t let_go_ = 0;  // bytes, by this process
};

}  // namespace epochfs::journal
