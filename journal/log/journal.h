// Journal: the writing side of one volume's log. Question it answers: is this
// mutation recorded, and up to where is the record durable?
//
// It is not the barrier (fs/recording/barrier.h): it trusts its caller that nothing is
// appended while seal() runs.
//
// Threads: append() from any thread, without a lock in common: space is
// reserved by one compare-and-swap, the record is then copied into mapped
// memory. A thread of its own prepares the next segment ahead of need.
// Lock order: loss_mutex_, prepare_mutex_, sync_mutex_.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "journal/log/in_flight.h"
#include "journal/log/reader.h"
#include "journal/log/record.h"
#include "journal/volume/epochs.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

struct JournalStatistics {
  uint64_t records = 0;  // appended by this process
  uint64_t bytes = 0;    // reserved by this process
  uint64_t lost = 0;     // records that found no room (a gap is recorded later)
  Lsn tail{};
  uint64_t segments = 0;  // files present
};

// What is kept of the segments that nobody needs any more, for inspection.
struct Retention {
  uint64_t bytes = 256 << 20;
  uint64_t age_ns = UINT64_MAX;  // of a segment's newest record
};

// How recovery asks about the backing directory: what does the name hold in that
// directory now? {0, 0}: nothing. It is asked for names in slots found filled.
struct NamedFile {
  FileId id;
  FileHandle handle;
};
using NameLookup = std::function<NamedFile(const FileHandle& parent_handle, std::string_view name)>;

// How recovery makes a file be compared, whose bytes power loss may have taken although
// size and times are those of the lost bytes: it gets a new ctime. False: there is no such
// regular file any more. Without a file: all that there are.
using SuspectMarker = std::function<Result<bool>(const FileId& file, const FileHandle& handle)>;

struct RecoveryReport {
  bool clean = true;             // the last mount ended by itself, or there was none
  bool machine_stopped = false;  // a gap was recorded: relationships reconcile
  bool damaged = false;          // the same, since records are missing that had been written
  uint64_t slots_filled = 0;     // mutations that may have happened unrecorded
  uint64_t records_read = 0;
  uint64_t bytes_skipped = 0;      // no records, between or after valid ones
  uint64_t suspects = 0;           // files whose bytes may be missing: they have a new ctime
  uint64_t suspects_unmarked = 0;  // such that could not be given one
  bool all_suspect = false;        // nobody knows which, so all have, or an error came (unmarked)
  uint64_t milliseconds = 0;
};

class Journal {
 public:
  // Recovers and opens for appending. The volume must be locked by the caller. After a
  // stop of the machine `marker`, if given, is called once for each file whose data was
  // changed behind what is settled.
  static Result<std::unique_ptr<Journal>> open(Storage& storage, Volume& volume,
                                               const NameLookup& lookup, RecoveryReport& report,
                                               const SuspectMarker& marker = {});
  ~Journal();

  // Appends a record; fills in its lsn, time and epoch. Returns its LSN, or
  // Lsn{0} when there is no room: the loss is then marked, through kill -9, and
  // a kGap record follows as soon as there is room. Never blocks for longer than
  // preparing a segment takes. Any thread.
  Lsn append(Record& record);

  // Returns when every record that was appended before the call is durable.
  // Calls that overlap share one fdatasync. Any thread.
  Result<void> sync();

  EpochId open_epoch() const { return EpochId{epoch_.load(std::memory_order_acquire)}; }
  // Mutations appended since the last seal.
  uint64_t records_in_open_epoch() const;

  // Closes the open epoch: appends kSeal and moves to the next epoch. Short; no
  // I/O. The caller keeps every append() out meanwhile, then calls publish().
  SealedEpoch seal();
  // Makes a sealed epoch durable: journal, then manifest. Slow; appends may go on.
  // Not at the same time as seal(). After an error the epoch is not to be used:
  // call again with the same, until it succeeds, before another seal().
  //
  // An epoch that lacks records, for want of room, and has no gap before its seal
  // fails here (ENOSPC) until the gap is in the journal: in the next epoch.
  Result<void> publish(const SealedEpoch& sealed);

  InFlight& in_flight() { return *in_flight_; }
  JournalStatistics statistics() const;

  // Removes segments that hold nothing after `oldest`'s seal, but for what is to be kept.
  // False: some of them stay only since what they tell is not settled yet.
  Result<bool> release_up_to(EpochId oldest, const Retention& keep = {});

  // What every record before this position tells is durable in the backing file system.
  Lsn settled() const { return Lsn{settled_.load(std::memory_order_relaxed)}; }
  // Notes, durably, that it is: a tail(), after which the backing file system was made
  // durable. One caller at a time.
  Result<void> note_settled(Lsn up_to);

  // `wanted` is called, by any thread and never for long, when another segment has been
  // begun, and when there is no room for one: somebody should see what can go.
  // Returns when nobody is in the one before it.
  void when_segments_come(std::function<void()> wanted);
  // There is no room for the next segment, though there may be some in this one.
  bool short_of_room() const { return short_of_room_.load(std::memory_order_relaxed); }
  // Tries again to get room for the next segment, now that some may be free.
  void look_for_room();

  // What every record before it tells had been done when this was read.
  Lsn tail() const { return Lsn{tail_.load(std::memory_order_acquire)}; }
  Lsn open_epoch_begin() const { return Lsn{epoch_begin_.load(std::memory_order_relaxed)}; }

  // Ends cleanly: everything durable, marked clean. No append may follow. The
  // caller has made the backing file system durable before (syncfs(2)): after a
  // clean end nobody looks for data that power loss took.
  Result<void> close();

 private:
  Journal(Storage& storage, Volume& volume);
  struct Segment {
    uint64_t index = 0;
    UniqueFd fd;
    std::byte* map = nullptr;
    uint64_t bytes = 0;

    ~Segment() {
      if (map) ::munmap(map, bytes);
    }
  };
  // What find_tail() found in the log behind the newest epoch of the manifest.
  struct Recovered {
    bool anything = false;              // records, or epochs: the journal has been in use
    bool seal_missing = false;          // nothing stands where the newest epoch was sealed
    bool absurd = false;                // epochs that cannot follow each other
    uint64_t begin = 0;                 // where reading began
    std::vector<Damage> holes;          // between valid records
    std::vector<SealedEpoch> unlisted;  // seals that the manifest lacks
  };
  Result<void> find_tail(Recovered& recovered, RecoveryReport& report);
  Result<bool> stands_within_record(Lsn position);
  void note_recovered(const Record& record, Recovered& recovered);
  Result<void> clear_behind_tail(RecoveryReport& report);
  void judge(const InFlight::Found& found, const Recovered& recovered, RecoveryReport& report);
  void record_uncertainty(const InFlight::Found& found, const NameLookup& lookup,
                          const RecoveryReport& report);
  Result<void> make_durable(const Recovered& recovered, const RecoveryReport& report);
  Result<void> recover_settled();
  Result<void> mark_suspects(const SuspectMarker& marker, RecoveryReport& report);
  Result<void> fill_holes(const Recovered& recovered, int fd, uint64_t index);
  std::byte* at(uint64_t position);
  bool prepare(uint64_t index, bool ahead = false);
  bool make_segment(uint64_t index, bool ahead);
  void prepare_ahead();
  std::byte* reserve(size_t size, Lsn& lsn);
  Lsn write(Record& record);
  void note_lost();
  bool write_gap_if_owed();  // false: it is owed still
  void retire_before(uint64_t index);
  Result<std::optional<RecordHead>> first_record(const std::string& segment);
  Result<void> let_manifest_go(EpochId oldest);

  Storage& storage_;
  Volume& volume_;
  uint64_t segment_bytes_;
  UniqueFd segments_dir_;
  std::unique_ptr<InFlight> in_flight_;
  std::unique_ptr<EpochManifest> manifest_;

  std::atomic<uint64_t> tail_{0};  // next free position
  std::atomic<uint64_t> epoch_{1};
  std::atomic<uint64_t> epoch_begin_{0};
  std::atomic<uint64_t> epoch_records_{0};
  std::atomic<uint64_t> records_{0};
  std::mutex loss_mutex_;  // to change lost_ together with its mark
  std::atomic<uint64_t> lost_{0};
  uint64_t cut_short_ = 0;  // epoch that lacks records and is not published yet
  uint64_t opened_at_ = 0;
  std::atomic<uint64_t> settled_{0};

  // A ring of mapped segments, found by index without a lock. publish() unmaps
  // those before the seal. Entries are set with prepare_mutex_ held and cleared
  // with sync_mutex_ held, too. An entry's index comes last when it is set and
  // first when it is cleared: whoever does not find his own must not look further.
  static constexpr uint64_t kNoSegment = UINT64_MAX;
  struct Mapped {
    std::atomic<uint64_t> index{kNoSegment};
    std::atomic<Segment*> segment{nullptr};
  };
  std::array<Mapped, kMappedSegments> mapped_;
  std::mutex prepare_mutex_;
  std::condition_variable prepare_wanted_;
  uint64_t wanted_segment_ = 0;           // the preparer's next job
  std::atomic<uint64_t> retry_at_ns_{0};  // no room: not before this time again
  std::atomic<bool> short_of_room_{false};
  std::mutex listener_mutex_;  // alone, to call it and to change it
  std::function<void()> segments_come_ = [] {};
  bool stop_ = false;
  std::thread preparer_;

  // Group commit: a caller is served by any sync that began after it arrived.
  std::atomic<uint64_t> sync_arrivals_{0};
  std::mutex sync_mutex_;
  uint64_t sync_served_ = 0;
  // Every segment before it is durable and retired. Both mutexes to change it.
  uint64_t synced_segment_ = 0;
};

}  // namespace epochfs::journal
