// Epochs: which epochs are sealed, since when, and where do their records end?
//
// The manifest, the file `epochs`, holds one entry of fixed size for each sealed epoch, in order.
// The barrier appends it. Entries of old epochs are released. Layout in FORMAT.md.
//
// Threads: one EpochManifest for a volume; readers at any time.
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
  Lsn begin{};              // where the first record that can belong to it may stand
  Lsn seal{};               // where its kSeal record stands
  uint64_t records = 0;     // mutations in it

  bool operator==(const SealedEpoch&) const = default;
};

// Reads the manifest, from the first entry that was not released. Their number is therefore not
// that of the newest. A torn last entry is left out; damage before it is an error of status
// kCorrupt.
Result<std::vector<SealedEpoch>> read_epochs(int volume_dir);
// The newest entry at or before `epoch`, without reading the rest. nullopt: there is none, or it
// was released.
Result<std::optional<SealedEpoch>> read_epoch(int volume_dir, EpochId epoch);
Result<std::optional<SealedEpoch>> read_last_epoch(int volume_dir);
// The entry of exactly this epoch, from an open manifest. nullopt: it is damaged, or not there.
Result<std::optional<SealedEpoch>> read_epoch_entry(int manifest, EpochId epoch);
// The first epoch whose entry was not released.
Result<EpochId> first_kept_epoch(int manifest);

// The writing side. One writer for a volume.
class EpochManifest {
 public:
  static Result<EpochManifest> open(Storage& storage, int volume_dir);
  // Appends the epochs that follow the newest one, in order and without gaps (checked: aborts).
  // Returns after fdatasync. After an error, append the same again.
  Result<void> append(std::span<const SealedEpoch> entries);
  // Releases the entries before `oldest_needed`: gives their room back, block by block. The newest
  // `keep` stay, and entries in one block with an entry that stays. Not durable: some may be there
  // again after a power loss. May run beside append().
  Result<void> let_go_before(EpochId oldest_needed, uint64_t keep = kKeptEpochs);
  // Drops the entries after `last`. For recovery only.
  Result<void> truncate_after(EpochId last);

 private:
  Storage* storage_ = nullptr;
  UniqueFd fd_;
  EpochId last_{};
  uint64_t let_go_ = 0;  // bytes, by this process
};

}  // namespace epochfs::journal
