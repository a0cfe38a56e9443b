// Cursors: up to which epoch does each relationship need the journal no more?
// One small file a relationship in the volume's cursors/ folder, written by the
// daemon, read by the mount. The oldest cursor bounds what retention may drop.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/storage.h"
#include "journal/base/types.h"

namespace epochfs::journal {

struct Cursor {
  EpochId epoch{};    // the newest that is durable at the target; changes since then are needed
  bool walk = false;  // a copy of the tree is being taken that began behind this epoch

  bool operator==(const Cursor&) const = default;
};
using CursorMap = std::map<std::string, Cursor>;  // by the relationship's id

Result<CursorMap> read_cursors(int volume_dir);
// Nullopt: nobody needs any change.
std::optional<EpochId> oldest_epoch(const CursorMap& cursors);
// Of those that walk.
std::optional<EpochId> oldest_walk(const CursorMap& cursors);
// Relationships that have one, whatever it says.
Result<std::vector<std::string>> list_cursors(int volume_dir);
Result<std::optional<Cursor>> read_cursor(int volume_dir, const std::string& relationship);
// Returns when the cursor is durable.
Result<void> write_cursor(Storage& storage, int volume_dir, const std::string& relationship,
                          const Cursor& cursor);
Result<void> remove_cursor(Storage& storage, int volume_dir, const std::string& relationship);

}  // namespace epochfs::journal
