#include "journal/log/journal.h"

#include <fmt/format.h>

#include <chrono>

#include "journal/base/directory.h"
#include "journal/log/reader.h"
#include "journal/log/settled.h"

namespace epochfs::journal {

Result<std::unique_ptr<Journal>> Journal::open(Storage& storage, Volume& volume,
                                               const NameLookup& lookup, RecoveryReport& report,
                                               const SuspectMarker& marker) {
  const auto started = std::chrono::steady_clock::now();
  report = {};
  std::unique_ptr<Journal> self(new Journal(storage, volume));
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume.dir(), kSegmentsDir));
  InFlight::Found found;
  EPOCHFS_TRY(self->in_flight_, InFlight::open(storage, volume.dir(), found));
  EPOCHFS_TRY(auto manifest, EpochManifest::open(storage, volume.dir()));
  self->manifest_ = std::make_unique<EpochManifest>(std::move(manifest));

  EPOCHFS_TRY(const Recovered recovered, find_tail(volume, *self->manifest_, report));
  EPOCHFS_DO(clear_behind_tail(storage, volume, recovered.tail, report));
  judge(found, recovered, report);
  self->epoch_ = value(recovered.open);
  self->epoch_begin_ = value(recovered.open_begin);
  self->epoch_records_ = recovered.open_records;
  EPOCHFS_TRY(self->segments_, Segments::open(storage, volume, std::move(dir), recovered.tail));

  // A crash from here on repeats all of this, until start().
  EPOCHFS_TRY(const Lsn settled, recover_settled(storage, volume, recovered.tail));
  self->settled_ = value(settled);
  record_uncertainty(found, report, lookup, [&](Record& r) { self->append(r); });
  EPOCHFS_DO(make_durable(storage, volume, recovered, report));
  EPOCHFS_DO(self->sync());
  EPOCHFS_DO(self->manifest_->append(recovered.unlisted));
  if (report.machine_stopped && marker) {
    EPOCHFS_DO(mark_suspects(volume, settled, marker, report));
  }
  EPOCHFS_DO(self->in_flight_->start(self->lost_ != 0));
  self->opened_at_ = self->tail();
  report.milliseconds = uint64_t(std::chrono::duration_cast<std::chrono::milliseconds>(
                                     std::chrono::steady_clock::now() - started)
                                     .count());
  return self;
}

// ---- appending ----

Lsn Journal::write(Record& r) {
  size_t size = encoded_size(r);
  Lsn lsn{};
  std::byte* to = segments_->reserve(size, lsn);
  if (!to) return Lsn{0};
  r.lsn = lsn;
  encode(r, {to, size});
  segments_->prepare_behind(Lsn{value(lsn) + size});
  return lsn;
}

Lsn Journal::append(Record& r) {
  // After a loss, nothing is appended before the gap that tells of it.
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

// The mark and the count change together. Otherwise a gap that is being written now could clear the
// mark of a loss that comes after it.
void Journal::note_lost() {
  Lock lock(loss_mutex_);
  in_flight_->set_records_lost(true);
  ++lost_;
  epoch_records_.fetch_add(1, std::memory_order_relaxed);  // something did change
}

bool Journal::write_gap_if_owed() {
  Lock lock(loss_mutex_);
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
  s.tail = tail();
  s.bytes = value(s.tail) - value(opened_at_);
  s.lost = lost_;
  if (auto segments = list_segments(volume_.dir())) s.segments = segments->size();
  return s;
}

// ---- epochs ----

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
    sealed.seal = tail();
  }
  epoch_begin_ = value(sealed.seal);
  epoch_records_ = cut_short ? 1 : 0;  // the gap that is owed
  epoch_ = value(next(sealed.epoch));
  return sealed;
}

Result<void> Journal::publish(const SealedEpoch& sealed) {
  EPOCHFS_DO(sync());
  segments_->retire_before(sealed.seal);
  if (cut_short_ == value(sealed.epoch)) {
    if (write_gap_if_owed()) cut_short_ = 0;
    return fail(fmt::format("seal epoch {} in journal {}: some of its records found no room; make "
                            "some, and try again",
                            value(sealed.epoch), volume_.path()),
                ENOSPC);
  }
  return manifest_->append({&sealed, 1});
}

// ---- what is no longer needed ----

Result<bool> Journal::release_up_to(EpochId oldest, const Retention& keep) {
  return journal::release_up_to(storage_, volume_, *manifest_, oldest, settled(), keep);
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

}  // namespace epochfs::journal
