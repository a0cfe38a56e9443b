// Journal: is this mutation recorded, and up to where are the records durable?
//
// The writing side of one volume's log: records, epochs, the gap that is owed when records found
// no room. Beneath it, Segments (segments.h) owns the log's bytes and files; recovery.h and
// retention.h have the steps of open() and release_up_to().
//
// It is not the barrier (fs/recording/barrier.h): it trusts its caller that nothing is appended
// while seal() runs.
//
// Threads: append() from any thread. It waits for no lock while there is room: Segments
// reserves space by one compare-and-swap, and the record is then copied into mapped memory.
// Lock order: loss_mutex_ before the mutexes of Segments.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "journal/base/mutex.h"
#include "journal/log/in_flight.h"
#include "journal/log/record.h"
#include "journal/log/recovery.h"
#include "journal/log/retention.h"
#include "journal/log/segments.h"
#include "journal/volume/epochs.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

struct JournalStatistics {
  uint64_t records = 0;  // appended by this process
  uint64_t bytes = 0;    // reserved by this process
  uint64_t lost = 0;     // records that found no room, until their gap is recorded
  Lsn tail{};
  uint64_t segments = 0;  // files present
};

class Journal {
 public:
  // Recovers and opens for appending. The caller has locked the volume, and keeps it. After the
  // machine stopped, `marker`, if given, is called once for each file whose data was changed
  // behind what is settled.
  static Result<std::unique_ptr<Journal>> open(Storage& storage, Volume& volume,
                                               const NameLookup& lookup, RecoveryReport& report,
                                               const SuspectMarker& marker = {});

  // Appends a record; fills in its lsn, time and epoch. Returns its LSN, or Lsn{0} when there is
  // no room: the loss is then marked, so that even kill -9 does not hide it, and a kGap record
  // follows as soon as there is room. Never blocks for longer than making a segment takes. Any
  // thread.
  Lsn append(Record& record);

  // Returns when every record that was appended before the call is durable. Calls that overlap
  // share one fdatasync. Any thread.
  Result<void> sync() { return segments_->sync(); }

  EpochId open_epoch() const { return EpochId{epoch_.load(std::memory_order_acquire)}; }
  // Mutations appended since the last seal, lost ones included.
  uint64_t records_in_open_epoch() const;

  // Closes the open epoch: appends kSeal and moves to the next epoch. Short; no I/O. The caller
  // keeps every append() out meanwhile, then calls publish().
  SealedEpoch seal();
  // Makes a sealed epoch durable: journal, then manifest. Slow; appends may go on. Not at the
  // same time as seal(). After an error the epoch must not be used: call again with the same
  // epoch, until it succeeds, before another seal().
  //
  // Where records found no room and no gap stands before the seal, this fails (ENOSPC) until the
  // gap is in the journal, in the next epoch.
  Result<void> publish(const SealedEpoch& sealed);

  InFlight& in_flight() { return *in_flight_; }
  JournalStatistics statistics() const;

  // Removes segments that hold nothing after `oldest`'s seal, except for what is to be kept.
  // False: some of them stay only because what they tell is not settled yet. One caller at a time.
  Result<bool> release_up_to(EpochId oldest, const Retention& keep = {});

  // The effects of all records before this position are durable in the backing file system.
  Lsn settled() const { return Lsn{settled_.load(std::memory_order_relaxed)}; }
  // Moves that position, durably: to a tail() that was read before the backing file system was
  // made durable. One caller at a time.
  Result<void> note_settled(Lsn up_to);

  // `wanted` is called when another segment has been begun, and when there is no room for one:
  // it is time to see what can go. By any thread; it must be quick. Returns when nobody is in
  // the listener before it.
  void when_segments_come(std::function<void()> wanted) {
    segments_->when_segments_come(std::move(wanted));
  }
  // There is no room for the next segment, though there may be some left in this one.
  bool short_of_room() const { return segments_->short_of_room(); }
  // Tries again to get room for the next segment, now that some may have become free.
  void look_for_room() { segments_->look_for_room(); }

  // Every mutation that a record before it tells of had been done when this was read.
  Lsn tail() const { return segments_->tail(); }
  Lsn open_epoch_begin() const { return Lsn{epoch_begin_.load(std::memory_order_relaxed)}; }

  // Ends cleanly: everything is durable, and marked clean. No append may follow. The caller has
  // made the backing file system durable before (syncfs(2)): after a clean end, recovery looks
  // for no data that power loss took.
  Result<void> close();

 private:
  Journal(Storage& storage, Volume& volume) : storage_(storage), volume_(volume) {}
  Lsn write(Record& record);
  void note_lost();
  bool write_gap_if_owed();  // false: it is still owed

  Storage& storage_;
  Volume& volume_;
  std::unique_ptr<InFlight> in_flight_;
  std::unique_ptr<EpochManifest> manifest_;
  std::unique_ptr<Segments> segments_;

  std::atomic<uint64_t> epoch_{1};
  std::atomic<uint64_t> epoch_begin_{0};
  std::atomic<uint64_t> epoch_records_{0};
  std::atomic<uint64_t> records_{0};
  std::atomic<uint64_t> settled_{0};
  Mutex loss_mutex_;  // held to change lost_ together with its mark in the in-flight file
  std::atomic<uint64_t> lost_{0};
  uint64_t cut_short_ = 0;  // epoch that lacks records and is not published yet; seal(), publish()
  Lsn opened_at_{};
};

}  // namespace epochfs::journal
