#include "journal/log/retention.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "journal/base/directory.h"
#include "journal/log/reader.h"

namespace epochfs::journal {
namespace {

// The first record of a segment; nullopt: it has none that is valid.
Result<std::optional<RecordHead>> first_record(int dir, uint64_t index, const std::string& name,
                                               uint64_t segment_bytes) {
  UniqueFd fd(::openat(dir, name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno("open segment " + name);
  std::array<std::byte, kMaxRecordBytes> bytes;
  EPOCHFS_TRY(size_t size,
              pread_full(fd.get(), bytes.data(), bytes.size(), kSegmentHeaderBytes, name));
  RecordHead head;
  const Lsn at{index * segment_bytes + kSegmentHeaderBytes};
  const auto error = decode_head(std::span(bytes).first(size), at, head);
  if (error != DecodeError::kNone) return std::optional<RecordHead>();
  return std::optional(head);
}

// Needed of the manifest are the epochs whose records are there, and those since which somebody
// may ask for changes.
Result<void> release_entries(int dir, const Volume& volume, EpochManifest& manifest,
                             EpochId oldest) {
  EPOCHFS_TRY(auto segments, list_segments(volume.dir()));
  if (segments.empty()) return {};
  EPOCHFS_TRY(auto first, first_record(dir, segments.begin()->first, segments.begin()->second,
                                       volume.info().segment_bytes));
  if (!first) return {};
  return manifest.let_go_before(std::min(oldest, first->epoch));
}

}  // namespace

Result<bool> release_up_to(Storage& storage, const Volume& volume, EpochManifest& manifest,
                           EpochId oldest, Lsn settled, const Retention& keep) {
  const uint64_t segment_bytes = volume.info().segment_bytes;
  EPOCHFS_TRY(auto sealed, read_epoch(volume.dir(), oldest));
  if (!sealed) return true;
  const uint64_t needed = value(sealed->seal) / segment_bytes;
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume.dir(), kSegmentsDir));
  EPOCHFS_TRY(auto segments, list_segments(volume.dir()));
  const uint64_t kept = keep.bytes / segment_bytes;
  const uint64_t now = now_ns();
  for (const auto& [index, name] : segments) {
    if (index >= needed) break;
    if (needed - index <= kept) {
      // Its last record is about as old as the first of the next one.
      const auto next_name = segments.find(index + 1);
      if (keep.age_ns == UINT64_MAX || next_name == segments.end()) break;
      EPOCHFS_TRY(auto next_begins,
                  first_record(dir.get(), index + 1, next_name->second, segment_bytes));
      const uint64_t begun = next_begins ? next_begins->time_ns : now;
      if (begun > now || now - begun < keep.age_ns) break;
    }
    if (index >= value(settled) / segment_bytes) return false;
    EPOCHFS_DO(storage.remove_file("segment-release", dir.get(), name));
  }
  EPOCHFS_DO(release_entries(dir.get(), volume, manifest, oldest));
  return true;
}

}  // namespace epochfs::journal
