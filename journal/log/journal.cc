#include "journal/log/journal.h"

#include <fmt/format.h>

#include <chrono>

#include "journal/base/directory.h"
#include "journal/log/reader.h"
#include "journal/log/settled.h"

namespace epochfs::journal {
namespace {

constexpr uint64_t kRetryAfterNs = 1'000'000'000;  // no room: how soon to look again

// Unlike the wall clock it never jumps.
uint64_t steady_ns() {
  auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(since_start).count());
}

}  // namespace

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

}  // namespace epochfs::journal
