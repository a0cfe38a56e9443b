// Cursors: up to which epoch has each relationship replicated this volume?
//
// One small file for each relationship in the volume's cursors/ folder. The daemon writes it, the
// mount reads it. The oldest cursor bounds what retention may remove. Layout in FORMAT.md.
//
// Threads: one writer for each cursor; readers at any time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/storage.h"
#include "journal/base/types.h"

namespace epochfs::journal {

struct Cursor {
  EpochId epoch{};    // the newest that is durable at the target; later changes are needed
  bool walk = false;  // a copy of the tree is being taken, which began after this epoch

  bool operator==(const Cursor&) const = default;
};
using CursorMap = std::map<std::string, Cursor>;  // by the relationship's id

Result<CursorMap> read_cursors(int volume_dir);
// The oldest cursor. nullopt: nobody needs any change.
std::optional<EpochId> oldest_epoch(const CursorMap& cursors);
// The oldest of those that walk.
std::optional<EpochId> oldest_walk(const CursorMap& cursors);
// Relationships that have a cursor, readable or not.
Result<std::vector<std::string>> list_cursors(int volume_dir);
// nullopt: the relationship has none. What is no number is an error of status kCorrupt.
Result<std::optional<Cursor>> read_cursor(int volume_dir, const std::string& relationship);
// Returns when the cursor is durable.
Result<void> write_cursor(Storage& storage, int volume_dir, const std::string& relationship,
                          const Cursor& cursor);
Result<void> remove_cursor(Storage& storage, int volume_dir, const std::string& relationship);

}  // namespace epochfs::journal
