// Format: which numbers does the layout of a volume folder consist of?
//
// Every magic, version, size and maximum that FORMAT.md names, each defined here and nowhere
// else. The page and this file change together: format_page_test compares them. The layouts
// themselves, and the values of fields (record types, flags), are in the file that encodes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace epochfs::journal {

// Magics: the first eight bytes of a file.
constexpr std::string_view kVolumeMagic = "EPOCHVOL";
constexpr std::string_view kSegmentMagic = "EPOCHSEG";
constexpr std::string_view kInFlightMagic = "EPOCHINF";
constexpr std::string_view kSettledMagic = "EPOCHSET";
constexpr std::string_view kCheckpointMagic = "EPOCHCKP";
constexpr std::string_view kPreImageMagic = "EPOCHPRE";

// Versions. A reader refuses what is newer than these.
constexpr uint32_t kStateFormatVersion = 1;  // state directory, volume, segments, checkpoints
constexpr uint32_t kInFlightFormatVersion = 1;
constexpr uint32_t kPreImageFormatVersion = 2;  // 1: without clones

// Names and handles, wherever they are stored.
constexpr size_t kMaxNameBytes = 255;   // NAME_MAX, for names of files and of xattrs
constexpr size_t kMaxHandleBytes = 64;  // ext4 uses 8, XFS 12, btrfs 20 to 40

// The volume file.
constexpr size_t kVolumeHeaderBytes = 80;
constexpr size_t kMaxBackingPathBytes = 4096;  // PATH_MAX

// Records.
constexpr size_t kRecordAlignment = 8;
constexpr size_t kRecordHeaderBytes = 72;
constexpr size_t kMaxRecordBytes = 1024;

// Segments.
constexpr size_t kSegmentHeaderBytes = 64;
constexpr uint64_t kSegmentGrainBytes = 4096;  // the size of a segment is a multiple of it
constexpr uint64_t kMinSegmentBytes = 64 << 10;
constexpr uint64_t kMaxSegmentBytes = 1 << 30;
constexpr uint64_t kDefaultSegmentBytes = 64 << 20;
constexpr size_t kMappedSegments = 1024;  // mapped at a time, so an epoch has no more
// Every log ends before this position, so neither a position nor a file offset ever wraps.
constexpr uint64_t kPositionLimit = uint64_t{1} << 63;

// Slots in flight.
constexpr size_t kMaxIntents = 2;  // records that one mutation can leave
constexpr size_t kInFlightHeaderBytes = 4096;
constexpr size_t kInFlightSlots = 512;
constexpr size_t kInFlightSlotBytes = 2304;  // room for kMaxIntents records of any size

// What recovery accepts.
// The bytes that stopped writers can leave behind the last whole record.
constexpr uint64_t kMaxTornBytes = kInFlightSlots * kMaxRecordBytes;
// A stopped writer leaves a hole, and another one at the end of the segment before if it had
// just moved on to the next.
constexpr size_t kMaxHolesOfOneWriter = 2;
constexpr uint64_t kMaxLostSeals = 1 << 24;  // between two records; more is damage

// The small files.
constexpr size_t kSettledBytes = 24;
constexpr size_t kMaxCursorBytes = 32;
constexpr size_t kMaxRelationshipIdBytes = 64;  // hex digits
constexpr size_t kMaxLabelBytes = 255;
constexpr size_t kMaxLabelFileBytes = 20 + 1 + kMaxLabelBytes + 1;  // time, space, text, newline
constexpr size_t kMaxLabels = 10'000;                               // the newest are kept

// The manifest.
constexpr size_t kEpochEntryBytes = 64;
constexpr uint64_t kMaxEpochEntries = INT64_MAX / kEpochEntryBytes;  // that a file can hold
constexpr uint64_t kEpochBlockBytes = 4096;  // released entries give whole blocks back
constexpr uint64_t kKeptEpochs = 1 << 20;    // the newest entries, which are never released

// Checkpoints.
constexpr size_t kCheckpointHeaderBytes = 128;
constexpr size_t kCheckpointFileEntryBytes = 56;  // before its handle and ranges
constexpr size_t kCheckpointNameEntryBytes = 56;  // before the name
constexpr size_t kFilesPerIndexEntry = 32;
constexpr size_t kMaxRangesOfFile = 1 << 21;  // more are made coarser (ByteRanges::limit_to)

// Pre-image logs.
constexpr size_t kPreImageHeaderBytes = 4096;
constexpr size_t kPreImageEntryHeaderBytes = 48;
constexpr size_t kMaxAttributesBytes = 1 << 20;  // an encoded Attributes message
constexpr size_t kMaxPreImageBytes = 1 << 20;    // one extent entry; longer ones are split
constexpr uint64_t kCloneAlignment = 4096;       // the block size of XFS and btrfs

// Whether a file that begins with these eight bytes is of that kind.
inline bool has_magic(const char (&found)[8], std::string_view magic) {
  return std::string_view(found, sizeof found) == magic;
}

inline void set_magic(char (&field)[8], std::string_view magic) { magic.copy(field, sizeof field); }

}  // namespace epochfs::journal
