#include "journal/log/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <unordered_set>

#include "journal/base/directory.h"
#include "journal/log/reader.h"
#include "journal/log/settled.h"

namespace epochfs::journal {
namespace {

constexpr uint64_t kRetryAfterNs = 1'000'000'000;  // no room: how soon to look again

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

// Unlike the wall clock it never jumps.
uint64_t steady_ns() {
  auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(since_start).count());
}

}  // namespace

struct Journal::Segment {
  uint64_t index = 0;
  UniqueFd fd;
  std::byte* map = nullptr;
  uint64_t bytes = 0;

  ~Segment() {
    if (map) ::munmap(map, bytes);
  }
};

Journal::Journal(Storage& storage, Volume& volume)
    : storage_(storage), volume_(volume), segment_bytes_(volume.info().segment_bytes) {}

Journal::~Journal() {
  {
    std::lock_guard lock(prepare_mutex_);
    stop_ = true;
  }
  prepare_wanted_.notify_all();
  if (preparer_.joinable()) preparer_.join();
  for (auto& entry : mapped_) delete entry.segment.load();
}

// ---- opening and recovery ----

// What find_tail() found in the log behind the newest epoch of the manifest.
struct Journal::Recovered {
  bool anything = false;              // records, or epochs: the journal has been in use
  bool seal_missing = false;          // nothing stands where the newest epoch was sealed
  bool absurd = false;                // epochs that cannot follow each other
  uint64_t begin = 0;                 // where reading began
  std::vector<Damage> holes;          // between valid records
  std::vector<SealedEpoch> unlisted;  // seals that the manifest lacks
};

Result<std::unique_ptr<Journal>> Journal::open(Storage& storage, Volume& volume,
                                               const NameLookup& lookup, RecoveryReport& report,
                                               const SuspectMarker& marker) {
  const auto started = std::chrono::steady_clock::now();
  report = {};
  std::unique_ptr<Journal> self(new Journal(storage, volume));
  EPOCHFS_TRY(self->segments_dir_, open_directory(volume.dir(), kSegmentsDir));

  InFlight::Found found;
  EPOCHFS_TRY(self->in_flight_, InFlight::open(storage, volume.dir(), found));
  EPOCHFS_TRY(auto manifest, EpochManifest::open(storage, volume.dir()));
  self->manifest_ = std::make_unique<EpochManifest>(std::move(manifest));
  Recovered recovered;
  EPOCHFS_DO(self->find_tail(recovered, report));
  self->judge(found, recovered, report);
  self->synced_segment_ = self->tail_ / self->segment_bytes_;

  const uint64_t segment = (self->tail_ + kSegmentHeaderBytes) / self->segment_bytes_;
  if (segment >= kPositionLimit / self->segment_bytes_) {
    return fail(
        fmt::format("open journal {}: it has used up all positions; move the folder away "
                    "to begin a new one",
                    volume.path()));
  }
  if (!self->prepare(segment)) {
    return fail(fmt::format("allocate {} bytes for journal {}; free space there, or name another "
                            "place with --journal",
                            self->segment_bytes_, volume.path()),
                ENOSPC);
  }
  self->preparer_ = std::thread([j = self.get()] { j->prepare_ahead(); });
  // A crash from here on repeats all of this, until start().
  EPOCHFS_DO(self->recover_settled());
  self->record_uncertainty(found, lookup, report);
  EPOCHFS_DO(self->make_durable(recovered, report));
  EPOCHFS_DO(self->sync());
  EPOCHFS_DO(self->manifest_->append(recovered.unlisted));
  if (report.machine_stopped && marker) EPOCHFS_DO(self->mark_suspects(marker, report));
  EPOCHFS_DO(self->in_flight_->start(self->lost_ != 0));
  self->opened_at_ = self->tail_;
  report.milliseconds = uint64_t(std::chrono::duration_cast<std::chrono::milliseconds>(
                                     std::chrono::steady_clock::now() - started)
                                     .count());
  return self;
}

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

Result<void> Journal::note_settled(Lsn up_to) {
  EPOCHFS_DO(write_settled(storage_, volume_.dir(), up_to));
  settled_ = value(up_to);
  return {};
}

Result<void> Journal::close() {
  const bool whole = write_gap_if_owed();
  EPOCHFS_DO(sync());
  if (!whole) return {};  // the loss stays marked: the next mount records the gap
  return in_flight_->finish();
}

// ---- segments ----

// Makes segment `index` ready for appending; false: no room. `ahead`: nobody waits.
bool Journal::prepare(uint64_t index, bool ahead) {
  if (index >= kPositionLimit / segment_bytes_) return false;
  bool made = false;
  {
    std::lock_guard lock(prepare_mutex_);
    // The preparer may come late, when the segment is full and retired already.
    if (index < synced_segment_) return false;
    const Segment* present = mapped_[index % kMappedSegments].segment.load();
    if (present && present->index == index) return true;
    // The open epoch takes up the whole ring: it is to be sealed.
    made = !present && make_segment(index, ahead);
    short_of_room_ = !made;
  }
  std::lock_guard lock(listener_mutex_);
  segments_come_();
  return made;
}

void Journal::when_segments_come(std::function<void()> wanted) {
  std::lock_guard lock(listener_mutex_);
  segments_come_ = std::move(wanted);
}

void Journal::look_for_room() {
  std::lock_guard lock(prepare_mutex_);
  const uint64_t index = tail_ / segment_bytes_ + 1;
  const Segment* present = mapped_[index % kMappedSegments].segment.load();
  if (present ? present->index == index : make_segment(index, true)) {
    short_of_room_ = false;
    retry_at_ns_ = 0;
  }
}

// With prepare_mutex_ held.
bool Journal::make_segment(uint64_t index, bool ahead) {
  Mapped& entry = mapped_[index % kMappedSegments];
  const std::string name = segment_name(index);
  auto segment = std::make_unique<Segment>();
  segment->index = index;
  segment->fd.reset(
      ::openat(segments_dir_.get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!segment->fd) return false;
  // What is shorter than a header holds nothing, whatever it begins with.
  struct stat st;
  if (::fstat(segment->fd.get(), &st) != 0) return false;
  if (size_t(st.st_size) < kSegmentHeaderBytes && ::ftruncate(segment->fd.get(), 0) != 0) {
    return false;
  }
  if (!storage_.allocate("segment", segment->fd.get(), segment_bytes_, name)) {
    // An empty remnant would take the space that another try needs.
    if (index * segment_bytes_ + kSegmentHeaderBytes >= tail_) {
      ::unlinkat(segments_dir_.get(), name.c_str(), 0);
    }
    return false;
  }
  // Or the first fsync in it would have all those zeros to wait for.
  if (ahead && !storage_.sync_data("segment-allocate", segment->fd.get(), name)) return false;
  void* map =
      ::mmap(nullptr, segment_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd.get(), 0);
  if (map == MAP_FAILED) return false;
  segment->map = static_cast<std::byte*>(map);
  segment->bytes = segment_bytes_;
  if (segment->map[0] == std::byte{0}) {
    write_segment_header({segment->map, segment_bytes_}, volume_.info().lineage, index,
                         segment_bytes_);
  }
  if (!storage_.sync_directory("segment-create", segments_dir_.get(), "segments")) return false;
  entry.segment.store(segment.release());
  entry.index.store(index, std::memory_order_release);
  return true;
}

void Journal::prepare_ahead() {
  std::unique_lock lock(prepare_mutex_);
  uint64_t done = 0;
  for (;;) {
    prepare_wanted_.wait(lock, [&] { return stop_ || wanted_segment_ > done; });
    if (stop_) return;
    done = wanted_segment_;
    lock.unlock();
    prepare(done, true);  // if there is no room, append() finds out
    lock.lock();
  }
}

// Address of a position, or null when its segment is not mapped. Who appends asks
// for no position before the newest seal, so what is found here is not retired
// while it is used.
std::byte* Journal::at(uint64_t position) {
  const uint64_t index = position / segment_bytes_;
  const Mapped& entry = mapped_[index % kMappedSegments];
  if (entry.index.load(std::memory_order_acquire) != index) return nullptr;
  return entry.segment.load()->map + position % segment_bytes_;
}

// ---- appending ----

// Claims `size` bytes behind the tail; null when there is no room.
std::byte* Journal::reserve(size_t size, Lsn& lsn) {
  uint64_t tail = tail_.load(std::memory_order_relaxed);
  for (;;) {
    uint64_t begin = tail;
    uint64_t offset = tail % segment_bytes_;
    if (offset == 0) begin = tail + kSegmentHeaderBytes;
    if (offset + size > segment_bytes_)
      begin = tail - offset + segment_bytes_ + kSegmentHeaderBytes;
    std::byte* to = at(begin);
    if (!to) {
      if (steady_ns() < retry_at_ns_.load(std::memory_order_relaxed)) return nullptr;
      if (!prepare(begin / segment_bytes_)) {
        retry_at_ns_ = steady_ns() + kRetryAfterNs;
        return nullptr;
      }
      tail = tail_.load(std::memory_order_relaxed);
      continue;
    }
    // Released, so that sync() finds the segments up to the tail that it reads.
    if (!tail_.compare_exchange_weak(tail, begin + size, std::memory_order_release,
                                     std::memory_order_relaxed)) {
      continue;
    }
    lsn = Lsn{begin};
    uint64_t left = begin / segment_bytes_ == tail / segment_bytes_ || offset == 0
                        ? 0
                        : segment_bytes_ - offset;
    if (left >= kRecordHeaderBytes) {
      // The end of the old segment must not look like the end of the log.
      encode_padding(Lsn{tail}, {at(tail), left});
    }
    return to;
  }
}

Lsn Journal::write(Record& r) {
  size_t size = encoded_size(r);
  Lsn lsn{};
  std::byte* to = reserve(size, lsn);
  if (!to) return Lsn{0};
  r.lsn = lsn;
  encode(r, {to, size});
  // Half a segment ahead of need.
  uint64_t end = value(lsn) + size, index = end / segment_bytes_;
  if (end % segment_bytes_ > segment_bytes_ / 2 && !at((index + 1) * segment_bytes_)) {
    std::unique_lock lock(prepare_mutex_, std::try_to_lock);
    if (lock && wanted_segment_ <= index) {
      wanted_segment_ = index + 1;
      prepare_wanted_.notify_one();
    }
  }
  return lsn;
}

Lsn Journal::append(Record& r) {
  // Nothing comes between what is lost and the gap that says so.
  const bool whole = lost_.load(std::memory_order_relaxed) == 0 || write_gap_if_owed();
  r.time_ns = now_ns();
  r.epoch = open_epoch();
  const Lsn lsn = whole ? write(r) : Lsn{0};
  if (lsn == Lsn{0}) {
    note_lost();
    return lsn;
  }
  epoch_records_.fetch_add(1, std::memory_order_relaxed);
  records_.fetch_add(1, std::memory_order_relaxed);
  return lsn;
}

// The mark and the count change together, or a gap that is written just now would
// take the mark of a loss that comes after it.
void Journal::note_lost() {
  std::lock_guard lock(loss_mutex_);
  in_flight_->set_records_lost(true);
  ++lost_;
  epoch_records_.fetch_add(1, std::memory_order_relaxed);  // something did change
}

bool Journal::write_gap_if_owed() {
  std::lock_guard lock(loss_mutex_);
  if (lost_ == 0) return true;
  Record gap;
  gap.type = RecordType::kGap;
  gap.mode = static_cast<uint32_t>(GapReason::kJournalFull);
  gap.time_ns = now_ns();
  gap.epoch = open_epoch();
  if (write(gap) == Lsn{0}) return false;
  lost_ = 0;
  in_flight_->set_records_lost(false);
  epoch_records_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

uint64_t Journal::records_in_open_epoch() const {
  return epoch_records_.load(std::memory_order_relaxed);
}

JournalStatistics Journal::statistics() const {
  JournalStatistics s;
  s.records = records_;
  s.tail = Lsn{tail_.load()};
  s.bytes = value(s.tail) - opened_at_;
  s.lost = lost_;
  if (auto segments = list_segments(volume_.dir())) s.segments = segments->size();
  return s;
}

// ---- durability ----

Result<void> Journal::sync() {
  const uint64_t arrival = sync_arrivals_.fetch_add(1) + 1;
  std::lock_guard lock(sync_mutex_);
  if (sync_served_ >= arrival) return {};
  const uint64_t serving = sync_arrivals_.load();
  const uint64_t last = tail_.load() / segment_bytes_;
  for (uint64_t index = synced_segment_; index <= last; ++index) {
    const Mapped& entry = mapped_[index % kMappedSegments];
    if (entry.index.load(std::memory_order_acquire) != index) continue;
    const Segment* segment = entry.segment.load();
    EPOCHFS_DO(storage_.sync_data("segment-sync", segment->fd.get(), segment_name(index)));
  }
  sync_served_ = serving;
  return {};
}

SealedEpoch Journal::seal() {
  const bool whole = write_gap_if_owed();
  SealedEpoch sealed;
  sealed.epoch = open_epoch();
  sealed.begin = Lsn{epoch_begin_.load()};
  sealed.records = epoch_records_;
  Record r;
  r.type = RecordType::kSeal;
  r.time_ns = sealed.barrier_ns = now_ns();
  r.epoch = sealed.epoch;
  // An epoch that lacks records gets no seal: the gap comes behind it.
  if (whole) sealed.seal = write(r);
  const bool cut_short = sealed.seal == Lsn{0};
  if (cut_short) {
    if (whole) note_lost();
    cut_short_ = value(sealed.epoch);
    sealed.seal = Lsn{tail_.load()};
  }
  epoch_begin_ = value(sealed.seal);
  epoch_records_ = cut_short ? 1 : 0;  // the gap that is owed
  epoch_ = value(next(sealed.epoch));
  return sealed;
}

Result<void> Journal::publish(const SealedEpoch& sealed) {
  EPOCHFS_DO(sync());
  retire_before(value(sealed.seal) / segment_bytes_);
  if (cut_short_ == value(sealed.epoch)) {
    if (write_gap_if_owed()) cut_short_ = 0;
    return fail(fmt::format("seal epoch {} in journal {}: some of its records found no room; make "
                            "some, and try again",
                            value(sealed.epoch), volume_.path()),
                ENOSPC);
  }
  return manifest_->append({&sealed, 1});
}

// Unmaps durable segments that lie wholly before a seal: when it was made nobody
// was copying into any segment, and since then everybody appends behind it.
void Journal::retire_before(uint64_t index) {
  std::scoped_lock lock(prepare_mutex_, sync_mutex_);
  for (; synced_segment_ < index; ++synced_segment_) {
    Mapped& entry = mapped_[synced_segment_ % kMappedSegments];
    if (entry.index.load() != synced_segment_) continue;
    entry.index.store(kNoSegment);
    delete entry.segment.exchange(nullptr);
  }
}

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
