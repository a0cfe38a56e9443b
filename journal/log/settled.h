// Settled: up to which position of the log is the effect of every mutation known to be
// durable in the backing file system? What lies behind it, power loss may have taken the
// bytes of, although inodes say otherwise.
//
// A small file that is written in place: a mark must find room on a full disk, since
// segments behind it cannot go. Torn, it says nothing, which is always safe.
#pragma once

#include <optional>

#include "journal/base/storage.h"
#include "journal/base/types.h"

namespace epochfs::journal {

constexpr const char* kSettledFile = "settled";

// nullopt: there is none, or it is damaged.
Result<std::optional<Lsn>> read_settled(int volume_dir);

// Makes the file, with this position in it, in one durable step.
Result<void> make_settled(Storage& storage, int volume_dir, Lsn up_to);

// Returns when the position is durable. The file must be there.
Result<void> write_settled(Storage& storage, int volume_dir, Lsn up_to);

}  // namespace epochfs::journal
