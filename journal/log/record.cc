#include "journal/log/record.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace epochfs::journal {
namespace {

// The operands that can follow the header, in this order.
enum Operand : uint16_t {
  kHandle = 1,
  kParent = 2,     // FileId, handle, name
  kParent2 = 4,    // FileId, handle, name2
  kOther = 8,      // FileId
  kRange = 16,     // begin, end
  kMode = 32,      // u32, u32 zero
  kXattrName = 64  // name
};

struct TypeRow {
  const char* name;
  uint16_t operands;
};

constexpr TypeRow kTypes[] = {
    /* kPadding */ {"padding", 0},
    /* kCreate */ {"create", kHandle | kParent | kMode},
    /* kMakeDirectory */ {"mkdir", kHandle | kParent | kMode},
    /* kMakeNode */ {"mknod", kHandle | kParent | kMode},
    /* kSymlink */ {"symlink", kHandle | kParent},
    /* kLink */ {"link", kHandle | kParent},
    /* kUnlink */ {"unlink", kParent},
    /* kRemoveDirectory */ {"rmdir", kParent},
    /* kRename */ {"rename", kHandle | kParent | kParent2 | kOther | kMode},
    /* kWrite */ {"write", kHandle | kRange},
    /* kTruncate */ {"truncate", kHandle | kRange},
    /* kAllocate */ {"fallocate", kHandle | kRange | kMode},
    /* kSetAttributes */ {"setattr", kHandle | kMode},
    /* kSetXattr */ {"setxattr", kHandle | kXattrName},
    /* kRemoveXattr */ {"removexattr", kHandle | kXattrName},
    /* kTemporary */ {"tmpfile", kHandle | kMode},
    /* kSeal */ {"seal", 0},
    /* kGap */ {"gap", kMode},
    /* kUncertainName */ {"uncertain", kHandle | kParent},
};
static_assert(std::size(kTypes) == kLastRecordType + 1);

const TypeRow* row_of(RecordType type) {
  auto i = static_cast<size_t>(type);
  return i < std::size(kTypes) ? &kTypes[i] : nullptr;
}

// Fixed part of every record. Little-endian, like every number in the journal.
struct Header {
  uint32_t length;
  uint16_t type;
  uint16_t flags;  // zero
  uint64_t checksum;
  uint64_t lsn;
  uint64_t time_ns;
  uint64_t epoch;
  uint32_t uid, gid, pid;
  uint32_t reserved;  // zero
  uint64_t inode, birth_ns;
};
static_assert(sizeof(Header) == kRecordHeaderBytes);
static_assert(std::endian::native == std::endian::little, "the journal is little-endian");

constexpr size_t aligned(size_t n) { return (n + kRecordAlignment - 1) & ~(kRecordAlignment - 1); }
constexpr size_t handle_bytes(const FileHandle& h) { return aligned(8 + h.size); }
constexpr size_t name_bytes(std::string_view n) { return aligned(2 + n.size()); }

// The checksum covers the whole record, with the checksum field itself as zero.
uint64_t checksum(const std::byte* record, size_t size) {
  constexpr size_t after = offsetof(Header, checksum) + sizeof(uint64_t);
  uint64_t head;
  std::memcpy(&head, record, sizeof head);
  return XXH3_64bits_withSeed(record + after, size - after, head);
}

class Writer {
 public:
  explicit Writer(std::byte* out) : at_(out) {}
  void u64(uint64_t v) { raw(&v, sizeof v); }
  void id(const FileId& f) {
    u64(f.inode);
    u64(f.birth_ns);
  }
  void handle(const FileHandle& h) {
    uint32_t head[2] = {static_cast<uint32_t>(h.type), h.size};
    raw(head, sizeof head);
    padded(h.bytes.data(), h.size, 8);
  }
  void name(std::string_view n) {
    auto size = static_cast<uint16_t>(n.size());
    raw(&size, sizeof size);
    padded(n.data(), n.size(), 2);
  }

 private:
  void raw(const void* data, size_t size) {
    std::memcpy(at_, data, size);
    at_ += size;
  }
  // Writes the data, then zeros up to the alignment of `before + size`: `before` bytes of the same
  // field are written already.
  void padded(const void* data, size_t size, size_t before) {
    raw(data, size);
    size_t fill = aligned(before + size) - before - size;
    std::memset(at_, 0, fill);
    at_ += fill;
  }
  std::byte* at_;
};

class Parser {
 public:
  explicit Parser(std::span<const std::byte> in) : in_(in) {}
  bool ok() const { return ok_; }
  bool done() const { return ok_ && in_.empty(); }

  uint64_t u64() {
    uint64_t v = 0;
    if (auto p = take(sizeof v)) std::memcpy(&v, p, sizeof v);
    return v;
  }
  FileId id() {
    uint64_t inode = u64();
    return {inode, u64()};
  }
  FileHandle handle() {
    FileHandle h;
    uint64_t head = u64();
    uint64_t size = head >> 32;
    if (size > FileHandle::kMaxBytes) ok_ = false;
    if (!ok_) return h;
    h.type = static_cast<int32_t>(head & UINT32_MAX);
    h.size = static_cast<uint8_t>(size);
    if (auto p = take_padded(size, 8)) std::memcpy(h.bytes.data(), p, size);
    return h;
  }
  std::string_view name() {
    uint16_t size = 0;
    if (in_.size() >= sizeof size) std::memcpy(&size, in_.data(), sizeof size);
    if (in_.size() < sizeof size || size > kMaxNameBytes) {
      ok_ = false;
      return {};
    }
    in_ = in_.subspan(sizeof size);
    auto p = take_padded(size, sizeof size);
    return {reinterpret_cast<const char*>(p), p ? size : 0u};
  }

 private:
  const std::byte* take(size_t size) {
    if (!ok_ || in_.size() < size) {
      ok_ = false;
      return nullptr;
    }
    auto p = in_.data();
    in_ = in_.subspan(size);
    return p;
  }
  const std::byte* take_padded(size_t size, size_t before) {
    return take(aligned(before + size) - before);
  }
  std::span<const std::byte> in_;
  bool ok_ = true;
};

Decoded failed(DecodeError error) {
  Decoded d;
  d.error = error;
  return d;
}

}  // namespace

const char* type_name(RecordType type) {
  auto row = row_of(type);
  return row ? row->name : "unknown";
}

std::optional<RecordType> type_by_name(std::string_view name) {
  for (size_t i = 0; i < std::size(kTypes); ++i) {
    if (name == kTypes[i].name) return static_cast<RecordType>(i);
  }
  return std::nullopt;
}

const char* decode_error_name(DecodeError error) {
  switch (error) {
    case DecodeError::kNone: return "none";
    case DecodeError::kEndOfLog: return "end of log";
    case DecodeError::kTruncated: return "truncated record";
    case DecodeError::kBadLength: return "bad length";
    case DecodeError::kBadChecksum: return "bad checksum";
    case DecodeError::kBadPosition: return "record of another position";
    case DecodeError::kBadType: return "unknown record type";
    case DecodeError::kBadOperands: return "bad operands";
    case DecodeError::kMissing: return "missing records";
  }
  return "unknown";
}

size_t encoded_size(const Record& r) {
  const uint16_t operands = row_of(r.type)->operands;
  size_t n = sizeof(Header);
  if (operands & kHandle) n += handle_bytes(r.handle);
  if (operands & kParent) n += 16 + handle_bytes(r.parent_handle) + name_bytes(r.name);
  if (operands & kParent2) n += 16 + handle_bytes(r.parent2_handle) + name_bytes(r.name2);
  if (operands & kOther) n += 16;
  if (operands & kRange) n += 16;
  if (operands & kMode) n += 8;
  if (operands & kXattrName) n += name_bytes(r.name);
  return n;
}

void encode(const Record& r, std::span<std::byte> out) {
  EPOCHFS_CHECK(r.name.size() <= kMaxNameBytes && r.name2.size() <= kMaxNameBytes);
  EPOCHFS_CHECK(out.size() == encoded_size(r) && out.size() <= kMaxRecordBytes);
  const uint16_t operands = row_of(r.type)->operands;
  Writer w(out.data() + sizeof(Header));
  if (operands & kHandle) w.handle(r.handle);
  if (operands & kParent) {
    w.id(r.parent);
    w.handle(r.parent_handle);
    w.name(r.name);
  }
  if (operands & kParent2) {
    w.id(r.parent2);
    w.handle(r.parent2_handle);
    w.name(r.name2);
  }
  if (operands & kOther) w.id(r.other);
  if (operands & kRange) {
    w.u64(r.range.begin);
    w.u64(r.range.end);
  }
  if (operands & kMode) w.u64(r.mode);
  if (operands & kXattrName) w.name(r.name);

  Header h{};
  h.length = static_cast<uint32_t>(out.size());
  h.type = static_cast<uint16_t>(r.type);
  h.lsn = value(r.lsn);
  h.time_ns = r.time_ns;
  h.epoch = value(r.epoch);
  h.uid = r.caller.uid;
  h.gid = r.caller.gid;
  h.pid = r.caller.pid;
  h.inode = r.file.inode;
  h.birth_ns = r.file.birth_ns;
  std::memcpy(out.data(), &h, sizeof h);
  h.checksum = checksum(out.data(), out.size());
  std::memcpy(out.data() + offsetof(Header, checksum), &h.checksum, sizeof h.checksum);
}

void encode_padding(Lsn position, std::span<std::byte> out) {
  EPOCHFS_CHECK(out.size() >= sizeof(Header) && out.size() <= kMaxRecordBytes);
  std::memset(out.data(), 0, out.size());
  Header h{};
  h.length = static_cast<uint32_t>(out.size());
  h.lsn = value(position);
  std::memcpy(out.data(), &h, sizeof h);
  h.checksum = checksum(out.data(), out.size());
  std::memcpy(out.data() + offsetof(Header, checksum), &h.checksum, sizeof h.checksum);
}

DecodeError decode_head(std::span<const std::byte> in, Lsn position, RecordHead& out) {
  Header h;
  if (in.size() < sizeof h) {
    bool zeros = std::all_of(in.begin(), in.end(), [](std::byte b) { return b == std::byte{0}; });
    return zeros ? DecodeError::kEndOfLog : DecodeError::kTruncated;
  }
  std::memcpy(&h, in.data(), sizeof h);
  if (h.length == 0 && h.checksum == 0 && h.lsn == 0) return DecodeError::kEndOfLog;
  if (h.length < sizeof h || h.length > kMaxRecordBytes || h.length % kRecordAlignment != 0) {
    return DecodeError::kBadLength;
  }
  if (h.length > in.size()) return DecodeError::kTruncated;
  if (h.checksum != checksum(in.data(), h.length)) return DecodeError::kBadChecksum;
  if (h.lsn != value(position)) return DecodeError::kBadPosition;
  if (h.type > kLastRecordType || h.flags != 0) return DecodeError::kBadType;
  out = {static_cast<RecordType>(h.type),
         h.length,
         position,
         h.time_ns,
         EpochId{h.epoch},
         {h.uid, h.gid, h.pid},
         {h.inode, h.birth_ns}};
  return DecodeError::kNone;
}

Decoded decode(std::span<const std::byte> in, Lsn position) {
  RecordHead h;
  if (DecodeError error = decode_head(in, position, h); error != DecodeError::kNone) {
    return failed(error);
  }
  Decoded d;
  d.size = h.bytes;
  Record& r = d.record;
  r.type = h.type;
  r.lsn = position;
  r.time_ns = h.time_ns;
  r.epoch = h.epoch;
  r.caller = h.caller;
  r.file = h.file;

  const uint16_t operands = row_of(r.type)->operands;
  Parser p(in.subspan(sizeof(Header), h.bytes - sizeof(Header)));
  if (operands & kHandle) r.handle = p.handle();
  if (operands & kParent) {
    r.parent = p.id();
    r.parent_handle = p.handle();
    r.name = p.name();
  }
  if (operands & kParent2) {
    r.parent2 = p.id();
    r.parent2_handle = p.handle();
    r.name2 = p.name();
  }
  if (operands & kOther) r.other = p.id();
  if (operands & kRange) {
    r.range.begin = p.u64();
    r.range.end = p.u64();
  }
  if (operands & kMode) r.mode = static_cast<uint32_t>(p.u64());
  if (operands & kXattrName) r.name = p.name();
  // Padding records fill a segment's end: whatever follows their header is no operand.
  if (r.type != RecordType::kPadding && !p.done()) return failed(DecodeError::kBadOperands);
  return d;
}

}  // namespace epochfs::journal
