// Cursors: up to which epoch does each relationship need the journal no more?
// One small file a relationship in the volume's cursors/ folder, written by the
// daemon, read by the mount. The oldest cursor bounds what retention may drop.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "journal/storage.h"
#include "journal/types.h"

namespace epochfs {

// relationship id -> newest epoch that is durable at its target.
Result<std::map<std::string, EpochId>> read_cursors(int volume_dir);
// Relationships that have one, whatever it says.
Result<std::vector<std::string>> list_cursors(int volume_dir);
Result<std::optional<EpochId>> read_cursor(int volume_dir, const std::string& relationship);
// Returns when the cursor is durable.
Result<void> write_cursor(Storage& storage, int volume_dir, const std::string& relationship,
                          EpochId epoch);
Result<void> remove_cursor(Storage& storage, int volume_dir, const std::string& relationship);

}  // namespace epochfs
