// Labels: what did somebody call an epoch? One small file a label in the volume's labels/
// folder, written after the epoch is durable. Knows nothing of who asked for it.
//
// A label is bound to its epoch by the barrier's time too, so that none ever names another
// epoch of the same number. Layout in FORMAT.md.
//
// Threads: one writer a volume; readers at any time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/base/format.h"
#include "journal/base/storage.h"
#include "journal/base/types.h"
#include "journal/volume/epochs.h"

namespace epochfs::journal {

// An error of status kUsage says why the text cannot be a label: 1 to kMaxLabelBytes bytes of
// UTF-8 without control characters can.
Result<void> check_label(std::string_view text);

// Returns when the label is durable. The epoch must be durable already, and be the newest
// that is. The text must be one that check_label() accepts (checked: aborts). Removes labels
// that are too many, and those of later epochs, which never came to be.
Result<void> write_label(Storage& storage, int volume_dir, const SealedEpoch& epoch,
                         std::string_view text);

// Epochs that have a file in labels/, whatever it says, in order.
Result<std::vector<EpochId>> list_labels(int volume_dir);
// nullopt: the epoch has no label; what another epoch of this number had is none. A file that
// holds no label is an error of status kCorrupt.
Result<std::optional<std::string>> read_label(int volume_dir, const SealedEpoch& epoch);

}  // namespace epochfs::journal
