// Record: what does one entry of the journal say, and how is it encoded?
//
// FORMAT.md is normative; this codec follows it. No I/O. Any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "journal/base/format.h"
#include "journal/base/result.h"
#include "journal/base/types.h"

namespace epochfs::journal {

// Values are on disk. Never renumber.
enum class RecordType : uint16_t {
  kPadding = 0,  // fills room; means nothing
  kCreate = 1,   // parent/name is a new regular file
  kMakeDirectory = 2,
  kMakeNode = 3,  // FIFO, socket, device
  kSymlink = 4,
  kLink = 5,    // `file` has one more name: parent/name
  kUnlink = 6,  // `file` has one name less: parent/name
  kRemoveDirectory = 7,
  kRename = 8,          // parent/name -> parent2/name2; other = what that was; mode = flags
  kWrite = 9,           // range, handle
  kTruncate = 10,       // the size became range.begin; everything from there on changed
  kAllocate = 11,       // fallocate(2): mode, range, handle
  kSetAttributes = 12,  // mode, owner or times: mode = FUSE_SET_ATTR_ mask
  kSetXattr = 13,       // name is the xattr's; also for ACLs
  kRemoveXattr = 14,
  kTemporary = 15,      // O_TMPFILE: a new file without a name; mode, handle
  kSeal = 16,           // a barrier closed `epoch`; the next record belongs to the next one
  kGap = 17,            // records before it are missing: reconcile. mode = GapReason
  kUncertainName = 18,  // after a crash: parent/name holds `file` now (none if zero), and any
                        // byte or attribute of that file may have changed
};
constexpr uint16_t kLastRecordType = 18;
const char* type_name(RecordType type);  // "create", "mkdir", ... as shown and filtered
std::optional<RecordType> type_by_name(std::string_view name);

enum class GapReason : uint32_t {
  kMachineStopped = 1,  // unclean stop of the machine
  kJournalFull = 2,     // no room for records
  kJournalDamaged = 3,  // records that had been written are gone
};

// A record in memory. The table in record.cc says which operands a type has; the others must be
// empty, and are not written. Views point into the buffer that the record was decoded from, or into
// memory that its maker owns.
struct Record {
  RecordType type = RecordType::kPadding;
  Lsn lsn{};
  uint64_t time_ns = 0;
  EpochId epoch{};
  Caller caller;
  FileId file;  // what the mutation is about; for kSeal and kGap none

  FileId parent, parent2, other;
  std::string_view name, name2;
  ByteRange range;
  uint32_t mode = 0;
  FileHandle handle, parent_handle, parent2_handle;  // of file, parent, parent2

  bool operator==(const Record&) const = default;
};

// The bytes that encode() will write: a multiple of kRecordAlignment.
size_t encoded_size(const Record& record);

// Writes the record, checksum included, to out, which has encoded_size() bytes. Names and handles
// must be within their maxima (checked: aborts).
void encode(const Record& record, std::span<std::byte> out);

// Fills `out`, of kRecordHeaderBytes to kMaxRecordBytes, with one padding record.
void encode_padding(Lsn position, std::span<std::byte> out);

enum class DecodeError {
  kNone,
  kEndOfLog,   // zeros: nothing was written here
  kTruncated,  // the length runs past the buffer
  kBadLength,  // not a multiple of 8, too short or above kMaxRecordBytes
  kBadChecksum,
  kBadPosition,  // valid, but its LSN is not its position
  kBadType,
  kBadOperands,  // operands do not fit the length, or a name or handle is too long
  kMissing,      // only of a reader: a segment, or the end of one, holds no records
};
const char* decode_error_name(DecodeError error);

struct Decoded {
  DecodeError error = DecodeError::kNone;
  Record record;    // valid only when error is kNone
  size_t size = 0;  // bytes taken
};

// What every record begins with. It suffices to look for few records among many.
struct RecordHead {
  RecordType type = RecordType::kPadding;
  uint32_t bytes = 0;  // of the whole record
  Lsn lsn{};
  uint64_t time_ns = 0;
  EpochId epoch{};
  Caller caller;
  FileId file;
};

// Checks the record at the beginning of `in` as decode() does, except for its operands, and fills
// `out`. What it accepts is what was written: the checksum covers the operands.
DecodeError decode_head(std::span<const std::byte> in, Lsn position, RecordHead& out);

// Decodes the record at the beginning of `in`; its LSN must be `position`. Never reads past `in`;
// any bytes are safe.
Decoded decode(std::span<const std::byte> in, Lsn position);

}  // namespace epochfs::journal
