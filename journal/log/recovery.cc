#include "journal/log/recovery.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "journal/base/directory.h"
#include "journal/log/settled.h"

namespace epochfs::journal {
namespace {

// Whether the record changes bytes of its file.
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

// Whether changes before it have no records, although what they changed was not lost with them.
bool hides_changes(const Record& r) {
  return r.type == RecordType::kGap && GapReason(r.mode) != GapReason::kMachineStopped;
}

// Reads records in order and tells the epochs that they are of.
class Replay {
 public:
  explicit Replay(Recovered& recovered) : recovered_(recovered) {}

  // Counts the open epoch's records, and notes seals that the manifest lacks. A record of a later
  // epoch than the open one shows that seals were lost: the epochs up to it end where it stands.
  // False: the epochs cannot follow each other.
  bool add(const Record& r) {
    if (r.type == RecordType::kPadding) return true;
    const bool seal = r.type == RecordType::kSeal;
    if (value(r.epoch) > value(recovered_.open) + kMaxLostSeals) return false;
    const EpochId open = seal ? next(r.epoch) : r.epoch;
    while (recovered_.open < open) end_epoch(r);
    if (!seal) ++recovered_.open_records;
    return true;
  }

 private:
  void end_epoch(const Record& at) {
    Recovered& now = recovered_;
    now.unlisted.push_back({now.open, at.time_ns, now.open_begin, at.lsn, now.open_records});
    now.open = next(now.open);
    now.open_begin = at.lsn;
    now.open_records = 0;
  }

  Recovered& recovered_;
};

// Whether an epoch can end there, and records be appended.
bool can_end_at(Lsn seal, uint64_t segment_bytes) {
  const uint64_t offset = value(seal) % segment_bytes;  // 0: behind a segment that was full
  return offset % kRecordAlignment == 0 && (offset == 0 || offset >= kSegmentHeaderBytes) &&
         value(seal) < kPositionLimit;
}

// Whether a record begins before the position and ends behind it: appending there would
// write over it.
Result<bool> stands_within_record(const Volume& volume, Lsn position) {
  const uint64_t segment_bytes = volume.info().segment_bytes;
  const Lsn segment{value(position) / segment_bytes * segment_bytes};
  bool within = false;
  auto look = [&](const Record& r) {
    if (r.lsn >= position) return false;
    // Padding does not count: encoded_size() knows only its header, and padding that fills a hole
    // may cover the place where a seal stood.
    within = r.type != RecordType::kPadding && value(r.lsn) + encoded_size(r) > value(position);
    return !within;
  };
  EPOCHFS_TRY([[maybe_unused]] Lsn end, JournalReader(volume).read_all(segment, look, nullptr));
  return within;
}

// Writes padding over the holes that lie in the segment.
Result<void> fill_holes(const VolumeInfo& info, const std::vector<Damage>& holes, int fd,
                        uint64_t index) {
  const uint64_t segment_bytes = info.segment_bytes;
  const uint64_t base = index * segment_bytes, first = base + kSegmentHeaderBytes;
  alignas(8) std::array<std::byte, kMaxRecordBytes> padding;
  for (const Damage& hole : holes) {
    uint64_t at = std::max(value(hole.at), first);
    const uint64_t end = std::min(value(hole.at) + hole.bytes, base + segment_bytes);
    if (at >= end) continue;
    EPOCHFS_TRY(size_t got,
                pread_full(fd, padding.data(), kSegmentHeaderBytes, 0, segment_name(index)));
    if (got < kSegmentHeaderBytes || padding[0] == std::byte{0}) {  // its header is missing, too
      write_segment_header(padding, info.lineage, index, segment_bytes);
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

}  // namespace

Result<Recovered> find_tail(const Volume& volume, EpochManifest& manifest, RecoveryReport& report) {
  Recovered recovered;
  EPOCHFS_TRY(auto last, read_last_epoch(volume.dir()));
  EPOCHFS_DO(manifest.truncate_after(last ? last->epoch : EpochId{0}));
  if (last) recovered.open = next(last->epoch);
  JournalReader reader(volume);
  EPOCHFS_TRY(recovered.begin, reader.oldest());
  if (last) recovered.begin = last->seal;
  recovered.open_begin = recovered.begin;

  bool absurd = last && !can_end_at(last->seal, volume.info().segment_bytes);
  if (!absurd) {
    Replay replay(recovered);
    auto add = [&](const Record& r) {
      ++report.records_read;
      absurd = !replay.add(r);
      return !absurd;
    };
    EPOCHFS_TRY(recovered.tail, reader.read_all(recovered.begin, add, &recovered.holes));
  }
  recovered.anything = last || report.records_read != 0;
  recovered.seal_missing = last && report.records_read == 0;
  const bool no_record_at_seal =
      recovered.seal_missing ||
      (!recovered.holes.empty() && recovered.holes[0].at == recovered.begin);
  if (last && no_record_at_seal && !absurd) {
    EPOCHFS_TRY(absurd, stands_within_record(volume, recovered.begin));
  }
  if (absurd) {
    return fail(fmt::format("recover journal {}: its records and its epoch manifest do not belong "
                            "together",
                            volume.path()),
                0, ExitStatus::kCorrupt);
  }
  for (const Damage& hole : recovered.holes) report.bytes_skipped += hole.bytes;
  return recovered;
}

Result<void> clear_behind_tail(Storage& storage, const Volume& volume, Lsn tail,
                               RecoveryReport& report) {
  const uint64_t segment_bytes = volume.info().segment_bytes;
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume.dir(), kSegmentsDir));
  EPOCHFS_TRY(auto segments, list_segments(volume.dir()));
  for (const auto& [index, name] : segments) {
    if (index * segment_bytes < value(tail)) continue;
    EPOCHFS_DO(storage.remove_file("segment-unused", dir.get(), name));
  }
  auto last = segments.find(value(tail) / segment_bytes);
  const uint64_t offset = value(tail) % segment_bytes;
  if (last == segments.end() || offset == 0) return {};
  UniqueFd fd(::openat(dir.get(), last->second.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return fail_errno("open segment " + last->second);
  std::string behind(std::min(kMaxTornBytes, segment_bytes - offset), '\0');
  EPOCHFS_TRY(size_t size,
              pread_full(fd.get(), behind.data(), behind.size(), offset, last->second));
  const size_t last_torn = std::string_view(behind).substr(0, size).find_last_not_of('\0');
  if (last_torn == std::string_view::npos) return {};
  behind.assign(last_torn + 1, '\0');
  report.bytes_skipped += behind.size();
  return pwrite_full(fd.get(), behind.data(), behind.size(), offset, last->second);
}

void judge(const InFlight::Found& found, const Recovered& recovered, RecoveryReport& report) {
  // Without its in-flight file, a journal that has been in use does not tell how it was left.
  const bool same_boot = found.existed && found.same_boot;
  report.clean = found.existed ? found.clean : !recovered.anything;
  report.slots_filled = found.intents.size();
  report.machine_stopped = !report.clean && !same_boot;
  const size_t explained = report.clean ? 0 : kMaxHolesOfOneWriter * found.filled;
  report.damaged = !report.machine_stopped &&
                   (recovered.seal_missing || found.damaged || recovered.holes.size() > explained);
}

Result<Lsn> recover_settled(Storage& storage, const Volume& volume, Lsn tail) {
  EPOCHFS_TRY(auto noted, read_settled(volume.dir()));
  const Lsn settled = std::min(noted.value_or(Lsn{0}), tail);
  if (settled != noted) EPOCHFS_DO(make_settled(storage, volume.dir(), settled));
  return settled;
}

void record_uncertainty(const InFlight::Found& found, const RecoveryReport& report,
                        const NameLookup& lookup, const std::function<void(Record&)>& append) {
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
      // Harmless if it did not happen: it only marks what may have changed. A nameless file that
      // was being made (it has no identity yet) is gone with the process.
      if (intent.file) append(again);
      continue;
    }
    uncertain(intent, intent.parent, intent.parent_handle, intent.name);
    if (intent.parent2) {
      uncertain(intent, intent.parent2, intent.parent2_handle, intent.name2);
    }
  }
}

Result<void> make_durable(Storage& storage, const Volume& volume, const Recovered& recovered,
                          const RecoveryReport& report) {
  const uint64_t segment_bytes = volume.info().segment_bytes;
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume.dir(), kSegmentsDir));
  EPOCHFS_TRY(auto segments, list_segments(volume.dir()));
  for (const auto& [index, name] : segments) {
    if ((index + 1) * segment_bytes <= value(recovered.begin)) continue;
    UniqueFd fd(::openat(dir.get(), name.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return fail_errno("open segment " + name);
    if (!report.clean && !report.damaged)
      EPOCHFS_DO(fill_holes(volume.info(), recovered.holes, fd.get(), index));
    EPOCHFS_DO(storage.sync_data("segment-recover", fd.get(), name));
  }
  return {};
}

Result<void> mark_suspects(const Volume& volume, Lsn settled, const SuspectMarker& marker,
                           RecoveryReport& report) {
  std::unordered_set<FileId> seen;
  auto mark = [&](const Record& r) {
    if (r.lsn < settled) return true;
    report.all_suspect = hides_changes(r);
    if (report.all_suspect) return false;
    if (!changes_data(r) || !seen.insert(r.file).second) return true;
    auto marked = marker(r.file, r.handle);
    report.suspects += marked && *marked;
    report.suspects_unmarked += !marked;
    return true;
  };
  const uint64_t segment_bytes = volume.info().segment_bytes;
  const Lsn segment{value(settled) / segment_bytes * segment_bytes};
  EPOCHFS_TRY([[maybe_unused]] Lsn end, JournalReader(volume).read_all(segment, mark, nullptr));
  if (report.all_suspect) report.suspects_unmarked += !marker({}, {});
  return {};
}

}  // namespace epochfs::journal
