#include "journal/log/journal.h"

#include <fcntl.h>

#include <cstdio>

#include "journal/log/reader.h"

namespace epochfs::journal {

Result<bool> Journal::release_up_to(EpochId oldest, const Retention& keep) {
  EPOCHFS_TRY(auto sealed, read_epoch(volume_.dir(), oldest));
  if (!sealed) return true;
  const uint64_t needed = value(sealed->seal) / segment_bytes_;
  const uint64_t settled = settled_ / segment_bytes_;
  EPOCHFS_TRY(auto segments, list_segments(volume_.dir()));
  const uint64_t kept = keep.bytes / segment_bytes_;
  const uint64_t now = now_ns();
  for (const auto& [index, name] : segments) {
    if (index >= needed) break;
    if (needed - index <= kept) {
      // Its last record is about as old as the first of the next one.
      const auto next_name = segments.find(index + 1);
      if (keep.age_ns == UINT64_MAX || next_name == segments.end()) break;
      EPOCHFS_TRY(auto next_begins, first_record(next_name->second));
      const uint64_t begun = next_begins ? next_begins->time_ns : now;
      if (begun > now || now - begun < keep.age_ns) break;
    }
    if (index >= settled) return false;
    EPOCHFS_DO(storage_.remove_file("segment-release", segments_dir_.get(), name));
  }
  EPOCHFS_DO(let_manifest_go(oldest));
  return true;
}

// What is needed of the manifest: the epochs whose records are there, and those since which
// somebody may ask for changes.
Result<void> Journal::let_manifest_go(EpochId oldest) {
  EPOCHFS_TRY(auto segments, list_segments(volume_.dir()));
  if (segments.empty()) return {};
  EPOCHFS_TRY(auto first, first_record(segments.begin()->second));
  if (!first) return {};
  return manifest_->let_go_before(std::min(oldest, first->epoch));
}

// Of a segment; nullopt: it has none that is valid.
Result<std::optional<RecordHead>> Journal::first_record(const std::string& name) {
  UniqueFd fd(::openat(segments_dir_.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno("open segment " + name);
  std::array<std::byte, kMaxRecordBytes> bytes;
  EPOCHFS_TRY(size_t size,
              pread_full(fd.get(), bytes.data(), bytes.size(), kSegmentHeaderBytes, name));
  uint64_t index = 0;
  std::sscanf(name.c_str(), "%16lx", &index);
  RecordHead head;
  const Lsn at{index * segment_bytes_ + kSegmentHeaderBytes};
  const auto error = decode_head(std::span(bytes).first(size), at, head);
  if (error != DecodeError::kNone) return std::optional<RecordHead>();
  return std::optional(head);
}

}  // namespace epochfs::journal
