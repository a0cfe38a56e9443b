#include "journal/log/journal.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "journal/log/reader.h"
#include "journal/log/settled.h"

namespace epochfs::journal {
namespace {

// Whether bytes of the record's file may be others since.
bool changes_data(const Record& r) {
  switch (r.type) {
    case RecordType::kWrite:
    case RecordType::kTruncate:
    case RecordType::kAllocate:
    case RecordType::kCreate:
    case RecordType::kTemporary:
    case RecordType::kUncertainName: return bool(r.file);
    default: return false;
  }
}

// Changes before it have no records, and were not lost together with what they changed.
bool hides_changes(const Record& r) {
  return r.type == RecordType::kGap && GapReason(r.mode) != GapReason::kMachineStopped;
}

}  // namespace

// Reads what follows the newest epoch of the manifest, finds the end of the log
// and clears what stands behind it.
Result<void> Journal::find_tail(Recovered& recovered, RecoveryReport& report) {
  EPOCHFS_TRY(auto last, read_last_epoch(volume_.dir()));
  EPOCHFS_DO(manifest_->truncate_after(last ? last->epoch : EpochId{0}));
  epoch_ = last ? value(last->epoch) + 1 : 1;
  JournalReader reader(volume_);
  EPOCHFS_TRY(Lsn begin, reader.oldest());
  if (last) {
    begin = last->seal;
    const uint64_t offset = value(begin) % segment_bytes_;  // 0: behind a segment that was full
    recovered.absurd = offset % kRecordAlignment != 0 ||
                       (offset != 0 && offset < kSegmentHeaderBytes) ||
                       value(begin) >= kPositionLimit;
  }
  recovered.begin = value(begin);
  epoch_begin_ = value(begin);

  Lsn end = begin;
  if (!recovered.absurd) {
    EPOCHFS_TRY(end, reader.read_all(
                         begin,
                         [&](const Record& r) {
                           ++report.records_read;
                           note_recovered(r, recovered);
                           return !recovered.absurd;
                         },
                         &recovered.holes));
  }
  recovered.anything = last || report.records_read != 0;
  recovered.seal_missing = last && report.records_read == 0;
  const bool no_record_at_seal =
      recovered.seal_missing || (!recovered.holes.empty() && recovered.holes[0].at == begin);
  if (last && no_record_at_seal && !recovered.absurd) {
    EPOCHFS_TRY(recovered.absurd, stands_within_record(begin));
  }
  if (recovered.absurd) {
    return fail(fmt::format("recover journal {}: its records and its epoch manifest do not belong "
                            "together",
                            volume_.path()),
                0, ExitStatus::kCorrupt);
  }
  tail_ = value(end);
  for (const Damage& hole : recovered.holes) report.bytes_skipped += hole.bytes;
  return clear_behind_tail(report);
}

// Whether a record begins before the position and ends behind it: appending there would
// write over it.
Result<bool> Journal::stands_within_record(Lsn position) {
  const uint64_t segment = value(position) / segment_bytes_ * segment_bytes_;
  bool within = false;
  EPOCHFS_TRY([[maybe_unused]] Lsn end, JournalReader(volume_).read_all(
                                            Lsn{segment},
                                            [&](const Record& r) {
                                              if (r.lsn >= position) return false;
                                              // Of padding only the header is known here, which
                                              // lies before a seal that is one.
                                              within =
                                                  r.type != RecordType::kPadding &&
                                                  value(r.lsn) + encoded_size(r) > value(position);
                                              return !within;
                                            },
                                            nullptr));
  return within;
}

// Counts the open epoch's records, and notes seals that the manifest lacks. A
// record of a later epoch than the open one tells that seals were lost: the
// epochs up to it end where it stands.
void Journal::note_recovered(const Record& r, Recovered& recovered) {
  if (r.type == RecordType::kPadding) return;
  const bool seal = r.type == RecordType::kSeal;
  if (value(r.epoch) > epoch_ + kMaxLostSeals) {
    recovered.absurd = true;
    return;
  }
  const uint64_t open = seal ? value(r.epoch) + 1 : value(r.epoch);
  for (; epoch_ < open; ++epoch_) {
    recovered.unlisted.push_back(
        {open_epoch(), r.time_ns, Lsn{epoch_begin_.load()}, r.lsn, epoch_records_.load()});
    epoch_begin_ = value(r.lsn);
    epoch_records_ = 0;
  }
  if (!seal) ++epoch_records_;
}

// Clears remains of records that were being written behind the end, and removes
// segments that hold no record: later ones never stand next to such remains.
Result<void> Journal::clear_behind_tail(RecoveryReport& report) {
  EPOCHFS_TRY(auto segments, list_segments(volume_.dir()));
  for (const auto& [index, name] : segments) {
    if (index * segment_bytes_ < tail_) continue;
    EPOCHFS_DO(storage_.remove_file("segment-unused", segments_dir_.get(), name));
  }
  auto last = segments.find(tail_ / segment_bytes_);
  const uint64_t offset = tail_ % segment_bytes_;
  if (last == segments.end() || offset == 0) return {};
  UniqueFd fd(::openat(segments_dir_.get(), last->second.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return fail_errno("open segment " + last->second);
  std::string behind(std::min(kMaxTornBytes, segment_bytes_ - offset), '\0');
  EPOCHFS_TRY(size_t size,
              pread_full(fd.get(), behind.data(), behind.size(), offset, last->second));
  const size_t last_torn = std::string_view(behind).substr(0, size).find_last_not_of('\0');
  if (last_torn == std::string_view::npos) return {};
  behind.assign(last_torn + 1, '\0');
  report.bytes_skipped += behind.size();
  return pwrite_full(fd.get(), behind.data(), behind.size(), offset, last->second);
}

// Decides what the last process left: FORMAT.md, "Recovery".
void Journal::judge(const InFlight::Found& found, const Recovered& recovered,
                    RecoveryReport& report) {
  // Without its in-flight file, a journal that has been in use tells nothing of
  // how it was left.
  const bool same_boot = found.existed && found.same_boot;
  report.clean = found.existed ? found.clean : !recovered.anything;
  report.slots_filled = found.intents.size();
  report.machine_stopped = !report.clean && !same_boot;
  const size_t explained = report.clean ? 0 : kMaxHolesOfOneWriter * found.filled;
  report.damaged = !report.machine_stopped &&
                   (recovered.seal_missing || found.damaged || recovered.holes.size() > explained);
}

// What the last process left undone becomes records: a gap where records are
// missing, an uncertain name or the intent itself where one mutation was cut off.
void Journal::record_uncertainty(const InFlight::Found& found, const NameLookup& lookup,
                                 const RecoveryReport& report) {
  if (report.machine_stopped || report.damaged || found.records_lost) {
    Record gap;
    gap.type = RecordType::kGap;
    gap.mode = static_cast<uint32_t>(report.machine_stopped ? GapReason::kMachineStopped
                                     : report.damaged       ? GapReason::kJournalDamaged
                                                            : GapReason::kJournalFull);
    append(gap);
  }
  if (report.clean) return;
  auto uncertain = [&](const Record& intent, const FileId& parent, const FileHandle& handle,
                       std::string_view name) {
    NamedFile now = lookup(handle, name);
    Record r;
    r.type = RecordType::kUncertainName;
    r.caller = intent.caller;
    r.file = now.id;
    r.handle = now.handle;
    r.parent = parent;
    r.parent_handle = handle;
    r.name = name;
    append(r);
  };
  for (const Record& intent : found.intents) {
    if (!intent.parent) {
      Record again = intent;
      // Harmless where it did not happen: it only marks. A nameless file that was
      // being made (no identity yet) is gone with the process.
      if (intent.file) append(again);
      continue;
    }
    uncertain(intent, intent.parent, intent.parent_handle, intent.name);
    if (intent.parent2) {
      uncertain(intent, intent.parent2, intent.parent2_handle, intent.name2);
    }
  }
}

// Makes what was read durable, and holes that are accounted for by a gap or by
// uncertain records into padding, so that readers need not wonder about them.
// Holes in what a clean stop left stay as they are: they are evidence.
Result<void> Journal::make_durable(const Recovered& recovered, const RecoveryReport& report) {
  EPOCHFS_TRY(auto segments, list_segments(volume_.dir()));
  for (const auto& [index, name] : segments) {
    if ((index + 1) * segment_bytes_ <= recovered.begin) continue;
    UniqueFd fd(::openat(segments_dir_.get(), name.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return fail_errno("open segment " + name);
    if (!report.clean && !report.damaged) EPOCHFS_DO(fill_holes(recovered, fd.get(), index));
    EPOCHFS_DO(storage_.sync_data("segment-recover", fd.get(), name));
  }
  return {};
}

Result<void> Journal::fill_holes(const Recovered& recovered, int fd, uint64_t index) {
  const uint64_t base = index * segment_bytes_, first = base + kSegmentHeaderBytes;
  alignas(8) std::array<std::byte, kMaxRecordBytes> padding;
  for (const Damage& hole : recovered.holes) {
    uint64_t at = std::max(value(hole.at), first);
    const uint64_t end = std::min(value(hole.at) + hole.bytes, base + segment_bytes_);
    if (at >= end) continue;
    EPOCHFS_TRY(size_t got,
                pread_full(fd, padding.data(), kSegmentHeaderBytes, 0, segment_name(index)));
    if (got < kSegmentHeaderBytes || padding[0] == std::byte{0}) {  // its header is missing, too
      write_segment_header(padding, volume_.info().lineage, index, segment_bytes_);
      EPOCHFS_DO(pwrite_full(fd, padding.data(), kSegmentHeaderBytes, 0, segment_name(index)));
    }
    while (end - at >= kRecordHeaderBytes) {
      uint64_t size = std::min<uint64_t>(end - at, kMaxRecordBytes);
      // No remainder that is too short for a record.
      if (end - at > size && end - at - size < kRecordHeaderBytes) size -= kRecordHeaderBytes;
      encode_padding(Lsn{at}, std::span(padding).first(size));
      EPOCHFS_DO(pwrite_full(fd, padding.data(), size, at - base, segment_name(index)));
      at += size;
    }
  }
  return {};
}

// Before anything is appended: a mark may lie behind the tail, where records were still
// being copied when it was made, and must not count for those that come there now.
Result<void> Journal::recover_settled() {
  EPOCHFS_TRY(auto noted, read_settled(volume_.dir()));
  const Lsn settled = std::min(noted.value_or(Lsn{0}), tail());
  if (settled != noted) EPOCHFS_DO(make_settled(storage_, volume_.dir(), settled));
  settled_ = value(settled);
  return {};
}

// What recovery has just appended of filled slots counts, too. Only what is settled next
// makes the new times durable, so that another stop of the machine before repeats this.
Result<void> Journal::mark_suspects(const SuspectMarker& marker, RecoveryReport& report) {
  std::unordered_set<FileId> seen;
  const uint64_t segment = settled_ / segment_bytes_ * segment_bytes_;
  EPOCHFS_TRY([[maybe_unused]] Lsn end, JournalReader(volume_).read_all(
                                            Lsn{segment},
                                            [&](const Record& r) {
                                              if (r.lsn < settled()) return true;
                                              report.all_suspect = hides_changes(r);
                                              if (report.all_suspect) return false;
                                              if (!changes_data(r) || !seen.insert(r.file).second)
                                                return true;
                                              auto marked = marker(r.file, r.handle);
                                              report.suspects += marked && *marked;
                                              report.suspects_unmarked += !marked;
                                              return true;
                                            },
                                            nullptr));
  if (report.all_suspect) report.suspects_unmarked += !marker({}, {});
  return {};
}

}  // namespace epochfs::journal
