// Types: which small values do all folders share, and in which units?
//
// Integers that look alike have types of their own, so that an epoch can never be passed for a log
// position. Nothing here does I/O, except that Uuid::random() asks the system for randomness.
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

// Position in the journal, in bytes from its beginning. Grows with every record; 0 is no record.
enum class Lsn : uint64_t {};
constexpr uint64_t value(Lsn lsn) { return static_cast<uint64_t>(lsn); }

// Number of an epoch, from 1 without gaps. 0 is "before every epoch".
enum class EpochId : uint64_t {};
constexpr uint64_t value(EpochId epoch) { return static_cast<uint64_t>(epoch); }
constexpr EpochId next(EpochId epoch) { return EpochId{value(epoch) + 1}; }

// Identity of a file of any type: inode number and birth time (ns since 1970 on the backing file
// system's clock). An inode number alone is reused after the file is gone; the pair is not. {0, 0}
// is no file.
struct FileId {
  uint64_t inode = 0;
  uint64_t birth_ns = 0;

  auto operator<=>(const FileId&) const = default;
  explicit operator bool() const { return inode != 0; }
};

// The opaque bytes that open_by_handle_at(2) takes. They open a file wherever it has been moved to
// in its file system. An empty handle opens nothing.
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

// The lineage of a volume: a random UUID, made with its journal.
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  std::string to_string() const;                        // 8-4-4-4-12 lower-case hex
  static bool parse(std::string_view text, Uuid& out);  // takes that form only
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
