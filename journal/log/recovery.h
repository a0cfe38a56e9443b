// Recovery: what did the last process leave in the log, and what must be recorded because of it?
//
// The steps of Journal::open(), in the order of this file; "Recovery" in FORMAT.md is the table
// that they follow. Each step may be repeated: after a crash in any of them, the next open()
// runs all of them again. They do not append; record_uncertainty() is handed the function that
// does.
//
// One thread, with the volume locked.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "journal/log/in_flight.h"
#include "journal/log/reader.h"
#include "journal/log/record.h"
#include "journal/volume/epochs.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// What a name holds.
struct NamedFile {
  FileId id;  // {0, 0}: nothing
  FileHandle handle;
};
// Looks up what a name in the backing directory holds now. Recovery asks this for names in slots
// that it found filled.
using NameLookup = std::function<NamedFile(const FileHandle& parent_handle, std::string_view name)>;

// Gives a file a new ctime, so that it is compared although power loss may have taken its bytes
// and left size and times as if they were there. False: there is no such regular file any more.
// Without a file: every regular file.
using SuspectMarker = std::function<Result<bool>(const FileId& file, const FileHandle& handle)>;

struct RecoveryReport {
  bool clean = true;             // the last mount ended by itself, or there was none
  bool machine_stopped = false;  // a gap was recorded: relationships reconcile
  bool damaged = false;          // likewise, because records that had been written are missing
  uint64_t slots_filled = 0;     // mutations that may have happened unrecorded
  uint64_t records_read = 0;
  uint64_t bytes_skipped = 0;      // that are no records, between valid ones or after the last
  uint64_t suspects = 0;           // files whose bytes may be missing: they have a new ctime
  uint64_t suspects_unmarked = 0;  // those that could not be given one
  // Nobody knows which files are suspect, so all have a new ctime, or giving it failed (unmarked).
  bool all_suspect = false;
  uint64_t milliseconds = 0;
};

// What the log holds behind the newest epoch of the manifest.
struct Recovered {
  Lsn begin{};       // where reading began
  Lsn tail{};        // behind the last valid record
  EpochId open{1};   // the open epoch,
  Lsn open_begin{};  // where it begins,
  uint64_t open_records = 0;
  bool anything = false;              // records, or epochs: the journal has been in use
  bool seal_missing = false;          // nothing stands where the newest epoch was sealed
  std::vector<Damage> holes;          // between valid records
  std::vector<SealedEpoch> unlisted;  // epochs that the manifest lacks
};

// Reads what follows the newest epoch of the manifest, and finds the end of the log. Drops torn
// entries of the manifest. Errors: log and manifest do not belong together (kCorrupt).
Result<Recovered> find_tail(const Volume& volume, EpochManifest& manifest, RecoveryReport& report);

// Clears remains of records that were being written behind the tail, and removes segments that
// hold no record: records that are appended later never stand next to such remains.
Result<void> clear_behind_tail(Storage& storage, const Volume& volume, Lsn tail,
                               RecoveryReport& report);

// Decides what happened to the last process, from what it left.
void judge(const InFlight::Found& found, const Recovered& recovered, RecoveryReport& report);

// The mark of what is settled, moved back to the tail where it lies behind it. Before anything is
// appended: records were still being copied when such a mark was made, and it must not count for
// those that come there now.
Result<Lsn> recover_settled(Storage& storage, const Volume& volume, Lsn tail);

// Records what the last process left undone: a gap where records are missing; an uncertain name,
// or the intent itself, where one mutation was cut off. Calls `append` for each record.
void record_uncertainty(const InFlight::Found& found, const RecoveryReport& report,
                        const NameLookup& lookup, const std::function<void(Record&)>& append);

// Makes what was read durable. Holes that a gap or uncertain records account for become padding,
// so that readers need not wonder about them; those that a clean stop left are evidence, and stay.
Result<void> make_durable(Storage& storage, const Volume& volume, const Recovered& recovered,
                          const RecoveryReport& report);

// Marks the files whose data was changed behind what is settled, those of records that recovery
// has just appended included. Only the next mark of what is settled makes the new times durable,
// so another stop of the machine before it repeats this.
Result<void> mark_suspects(const Volume& volume, Lsn settled, const SuspectMarker& marker,
                           RecoveryReport& report);

}  // namespace epochfs::journal
