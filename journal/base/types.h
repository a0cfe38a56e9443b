// Types: which small values do all folders share, and in which units?
//
// Look-alike integers get types of their own, so that an epoch can never be
// passed for a log position. Nothing here does I/O or allocates.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "journal/base/format.h"

namespace epochfs {

// Position of a record in the journal, in bytes from the journal's beginning.
// Grows with every record; 0 is no record.
enum class Lsn : uint64_t {};
constexpr uint64_t value(Lsn lsn) { return static_cast<uint64_t>(lsn); }

// Number of an epoch, from 1 without gaps. 0 is "before every epoch".
enum class EpochId : uint64_t {};
constexpr uint64_t value(EpochId epoch) { return static_cast<uint64_t>(epoch); }
constexpr EpochId next(EpochId epoch) { return EpochId{value(epoch) + 1}; }

// Identity of a file of any type: inode number and birth time (ns since 1970 on
// the backing file system's clock). Unlike the inode number alone it is not
// reused when the file is gone. {0, 0} is no file.
struct FileId {
  uint64_t inode = 0;
  uint64_t birth_ns = 0;

  auto operator<=>(const FileId&) const = default;
  explicit operator bool() const { return inode != 0; }
};

// What open_by_handle_at(2) takes: opaque bytes of the backing file system that
// open a file wherever it has been moved to. An empty handle opens nothing.
struct FileHandle {
  static constexpr size_t kMaxBytes = journal::kMaxHandleBytes;

  int32_t type = 0;
  uint8_t size = 0;
  std::array<uint8_t, kMaxBytes> bytes{};

  explicit operator bool() const { return size != 0; }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes.data()), size}; }
  bool operator==(const FileHandle& o) const { return type == o.type && view() == o.view(); }
};

// Who asked for a mutation.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t pid = 0;

  bool operator==(const Caller&) const = default;
};

// Half-open range of bytes, [begin, end).
struct ByteRange {
  static constexpr uint64_t kEndOfFile = UINT64_MAX;  // "to the end, wherever that is"

  uint64_t begin = 0;
  uint64_t end = 0;

  bool empty() const { return begin >= end; }
  uint64_t length() const { return empty() ? 0 : end - begin; }
  bool operator==(const ByteRange&) const = default;
};

// Lineage of a volume: made at random when its journal is created.
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  std::string to_string() const;                        // 8-4-4-4-12 lower-case hex
  static bool parse(std::string_view text, Uuid& out);  // the same form only
  static Uuid random();
};

using journal::kMaxNameBytes;

}  // namespace epochfs

template <>
struct std::hash<epochfs::FileId> {
  size_t operator()(const epochfs::FileId& id) const noexcept {
    uint64_t h = id.inode * 0x9E3779B97F4A7C15ull ^ (id.birth_ns + 0x7F4A7C15F39CC060ull);
    return h ^ (h >> 29);
  }
};
