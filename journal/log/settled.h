// Settled: up to which record are the effects durable in the backing file system?
//
// Power loss may have taken the bytes of mutations behind that position, although the inodes say
// otherwise. The mark is a small file that is written in place: it must find room on a full disk,
// because segments behind it cannot be removed. A torn mark says nothing, which is always safe.
//
// Threads: one writer for a volume; readers at any time.
#pragma once

#include <optional>

#include "journal/base/storage.h"
#include "journal/base/types.h"

namespace epochfs::journal {

constexpr const char* kSettledFile = "settled";

// The mark. nullopt: there is none, or it is damaged.
Result<std::optional<Lsn>> read_settled(int volume_dir);

// Makes the file with this position, in one durable step.
Result<void> make_settled(Storage& storage, int volume_dir, Lsn up_to);

// Returns when the position is durable. The file must be there.
Result<void> write_settled(Storage& storage, int volume_dir, Lsn up_to);

}  // namespace epochfs::journal
