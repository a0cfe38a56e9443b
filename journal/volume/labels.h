// Labels: what name was an epoch given?
//
// One small file for each label in the volume's labels/ folder, written after the epoch is
// durable. A label also holds the time of its epoch's barrier: after power loss another epoch may
// get the same number, and must not inherit the label. Layout in FORMAT.md.
//
// Threads: one writer for a volume; readers at any time.
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

// A label is 1 to kMaxLabelBytes bytes of UTF-8 without control characters. An error of status
// kUsage says what is wrong with the text.
Result<void> check_label(std::string_view text);

// Returns when the label is durable. The epoch must be durable, and be the newest that is.
// check_label() must accept the text (checked: aborts). Then removes labels beyond the newest
// kMaxLabels, and those of later epochs, which were never published.
Result<void> write_label(Storage& storage, int volume_dir, const SealedEpoch& epoch,
                         std::string_view text);

// Epochs that have a file in labels/, readable or not, in order.
Result<std::vector<EpochId>> list_labels(int volume_dir);
// nullopt: the epoch has no label. The label of another epoch of the same number does not count. A
// file that holds no label is an error of status kCorrupt.
Result<std::optional<std::string>> read_label(int volume_dir, const SealedEpoch& epoch);

}  // namespace epochfs::journal
