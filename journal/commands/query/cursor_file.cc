#include "journal/commands/query/cursor_file.h"

#include <fmt/format.h>

#include <charconv>

namespace epochfs::journal {
namespace {

constexpr std::string_view kBegins = "epochfs journal cursor 1 ";
constexpr size_t kMaxBytes = 128, kUuidBytes = 36;

}  // namespace

Result<CursorFile> CursorFile::open(const std::string& path, const Uuid& lineage) {
  CursorFile cursor;
  cursor.path_ = path;
  cursor.lineage_ = lineage;
  const size_t slash = path.rfind('/');
  cursor.name_ = path.substr(slash == std::string::npos ? 0 : slash + 1);
  if (cursor.name_.empty() || cursor.name_ == "." || cursor.name_ == "..") {
    return fail("option --cursor: \"" + path + "\" names no file; write the path of one", 0,
                ExitStatus::kUsage);
  }
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  EPOCHFS_TRY(cursor.folder_, open_directory(folder));
  return cursor;
}

Result<std::optional<Lsn>> CursorFile::read() const {
  auto text = read_file(folder_.get(), name_, kMaxBytes);
  if (!text && text.error().code == ENOENT) return std::optional<Lsn>();
  auto refused = [&](const char* why) {
    return fail(fmt::format("read cursor {}: {}; name another file with --cursor, or remove it",
                            path_, why),
                0, ExitStatus::kUsage);
  };
  const bool no_cursor =
      !text && (text.error().code == EFBIG || text.error().status == ExitStatus::kCorrupt);
  if (no_cursor) return refused("it is no cursor");
  if (!text) return tl::unexpected(text.error());
  std::string_view rest = *text;
  if (!rest.starts_with(kBegins)) return refused("it is no cursor");
  rest.remove_prefix(kBegins.size());
  Uuid lineage;
  uint64_t lsn = 0;
  if (rest.size() <= kUuidBytes || !Uuid::parse(rest.substr(0, kUuidBytes), lineage)) {
    return refused("it is no cursor");
  }
  rest.remove_prefix(kUuidBytes + 1);
  auto [end, code] = std::from_chars(rest.data(), rest.data() + rest.size(), lsn);
  rest.remove_prefix(size_t(end - rest.data()));
  if (code != std::errc() || rest != "\n") {
    return refused("it is no cursor");
  }
  if (lineage != lineage_) return refused("it belongs to another journal");
  return std::optional<Lsn>(Lsn{lsn});
}

Result<void> CursorFile::write(Lsn at) {
  return Storage::system().replace_file(
      "journal-follow", folder_.get(), name_,
      fmt::format("{}{} {}\n", kBegins, lineage_.to_string(), value(at)));
}

}  // namespace epochfs::journal
