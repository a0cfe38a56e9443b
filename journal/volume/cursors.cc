#include "journal/volume/cursors.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "journal/base/directory.h"
#include "journal/base/format.h"
#include "journal/base/unix.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {
namespace {

constexpr const char* kWalk = " walk\n";  // after the epoch

// Whether it is a relationship's id. Neither a path nor a temporary file can be one.
bool is_id(std::string_view name) {
  return !name.empty() && name.size() <= kMaxRelationshipIdBytes &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

Result<std::optional<Cursor>> read_cursor(int volume_dir, const std::string& relationship) {
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume_dir, kCursorsDir));
  auto text = read_file(dir.get(), relationship, kMaxCursorBytes);
  if (!text && text.error().code == ENOENT) return std::optional<Cursor>();
  if (!text) return tl::unexpected(text.error());
  uint64_t epoch = 0;
  auto [end, code] = std::from_chars(text->data(), text->data() + text->size(), epoch);
  const std::string_view rest = end;
  if (code != std::errc() || (rest != "\n" && rest != kWalk)) {
    return fail("read cursor of relationship " + relationship + ": not a number", 0,
                ExitStatus::kCorrupt);
  }
  return std::optional(Cursor{EpochId{epoch}, rest == kWalk});
}

Result<std::vector<std::string>> list_cursors(int volume_dir) {
  std::vector<std::string> out;
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume_dir, kCursorsDir));
  EPOCHFS_DO(for_each_entry(dir.get(), kCursorsDir, [&](const char* name) {
    if (is_id(name)) out.push_back(name);
  }));
  return out;
}

Result<CursorMap> read_cursors(int volume_dir) {
  CursorMap out;
  EPOCHFS_TRY(auto ids, list_cursors(volume_dir));
  for (const std::string& id : ids) {
    EPOCHFS_TRY(auto cursor, read_cursor(volume_dir, id));
    if (cursor) out[id] = *cursor;
  }
  return out;
}

std::optional<EpochId> oldest_epoch(const CursorMap& cursors) {
  std::optional<EpochId> oldest;
  for (const auto& [id, cursor] : cursors) {
    oldest = std::min(oldest.value_or(cursor.epoch), cursor.epoch);
  }
  return oldest;
}

std::optional<EpochId> oldest_walk(const CursorMap& cursors) {
  std::optional<EpochId> oldest;
  for (const auto& [id, cursor] : cursors) {
    if (cursor.walk) oldest = std::min(oldest.value_or(cursor.epoch), cursor.epoch);
  }
  return oldest;
}

Result<void> write_cursor(Storage& storage, int volume_dir, const std::string& relationship,
                          const Cursor& cursor) {
  EPOCHFS_CHECK(is_id(relationship));
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume_dir, kCursorsDir));
  return storage.replace_file("cursor", dir.get(), relationship,
                              fmt::format("{}{}", value(cursor.epoch), cursor.walk ? kWalk : "\n"));
}

Result<void> remove_cursor(Storage& storage, int volume_dir, const std::string& relationship) {
  EPOCHFS_CHECK(is_id(relationship));
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume_dir, kCursorsDir));
  return storage.remove_file("cursor-remove", dir.get(), relationship);
}

}  // namespace epochfs::journal
