// Node: what does the target note about a file, both held and on its way? Defines the records of
// the index and their encoding. No I/O.
//
// The fixed parts are copied as they lie in memory: an index never leaves the machine that wrote
// it.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "journal/base/result.h"
#include "journal/base/types.h"

namespace epochfs::replicator {

struct Timestamp {
  int64_t seconds = 0;
  int64_t nanos = 0;

  bool operator==(const Timestamp&) const = default;
};

struct Xattr {
  std::string name, value;

  bool operator==(const Xattr&) const = default;
};

// All of a file except its bytes, names, xattrs and a symbolic link's target.
struct FixedAttributes {
  uint32_t mode = 0;  // as st_mode
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t links = 0;
  uint64_t rdev = 0;  // (major << 32) | minor
  uint64_t size = 0;
  Timestamp atime, mtime, ctime;

  bool operator==(const FixedAttributes&) const = default;
};

// A name: one component inside a directory.
struct EntryName {
  FileId parent;
  std::string name;

  auto operator<=>(const EntryName&) const = default;
};

// A file that the target holds.
struct IndexedNode {
  uint32_t mode = 0;
  uint32_t reserved = 0;
  uint64_t size = 0;
  uint64_t version = 0;       // of its bytes; 0: unknown
  Timestamp mtime, ctime;     // on the source
  uint64_t target_inode = 0;  // another number there: something else replaced the file
  Timestamp target_mtime;     // as the target's file system stores it

  bool operator==(const IndexedNode&) const = default;
};

enum class Content : uint8_t {
  kNone,    // no bytes are staged: the target has them
  kWhole,   // all bytes are staged
  kRanges,  // the bytes that changed are staged
};

// A file as it will be, and how much of it has been received.
struct StagedHead {
  FixedAttributes attributes;
  uint64_t version = 0;
  uint64_t received = 0;  // blocks have been received up to this offset
  uint64_t floor = 0;     // where this transfer resumed: blocks below it may come again
  // A file whose staged bytes are being patched: bytes from here on are older than the patch.
  uint64_t trusted_end = UINT64_MAX;
  uint64_t target_inode = 0;  // once its attributes are set
  Timestamp target_mtime;
  uint32_t generation = 0;  // of the transfer that announced it last
  Content content = Content::kNone;
  bool fresh = false;      // what the index has under this id is another file
  bool forgotten = false;  // it turned out not to exist
  bool incoming = false;   // it is in incoming/, or will be there before the commit

  // The staged bytes up to this offset are of this version.
  uint64_t resume_at() const { return received < trusted_end ? received : trusted_end; }
  bool is_complete() const { return resume_at() >= attributes.size; }
};

struct StagedNode : StagedHead {
  bool finished = false;  // the file in incoming/ has its size and attributes
  std::vector<Xattr> xattrs;
  std::string symlink_target;
};

// Bytes of a file that is staged as ranges.
enum class RangeKind : uint8_t {
  kInline,  // the bytes are in the record
  kFile,    // they are in extents/, at the same offset
  kHole,
};
struct StagedRange {
  RangeKind kind = RangeKind::kHole;
  uint64_t length = 0;
  std::string_view bytes;  // kInline only
};

static_assert(std::has_unique_object_representations_v<IndexedNode>);
static_assert(std::has_unique_object_representations_v<StagedHead>);

std::string encode_indexed(const IndexedNode& node);
std::string encode_staged(const StagedNode& node);
std::string encode_range(const StagedRange& range);
// Errors: the record is damaged (status kCorrupt).
Result<IndexedNode> decode_indexed(std::string_view bytes);
Result<StagedHead> decode_staged_head(std::string_view bytes);
Result<StagedNode> decode_staged(std::string_view bytes);
Result<StagedRange> decode_range(std::string_view bytes);  // borrows bytes

// The name of a file in incoming/, extents/ and limbo/: inode and birth time in hex.
std::string stage_name(FileId id);
bool parse_stage_name(std::string_view text, FileId& out);

// How messages name a file: "inode 1234".
std::string inode_text(FileId id);

}  // namespace epochfs::replicator
