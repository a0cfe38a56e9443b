// InFlight: which mutations may have happened without a record?
//
// A small mapped file with one slot for each worker thread. A worker writes the intent of a
// mutation into its slot, performs the mutation, appends the record, and clears the slot. A slot
// that is found filled after a crash names objects that count as changed. What to do about them is
// decided by recovery (recovery.h).
//
// The file also holds the marks that must survive kill -9 without a system call: the boot that
// wrote it, whether the last stop was clean, and whether records were lost for want of space.
//
// Threads: open(), start() and finish() while no worker runs; the rest from any.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/format.h"
#include "journal/base/storage.h"
#include "journal/log/record.h"

namespace epochfs::journal {

class InFlight {
 public:
  // One worker's slot. Used by one thread at a time.
  class Slot {
   public:
    // Publishes the intent: at most kMaxIntents records, encoded with LSN 0. Names and handles are
    // copied. Takes effect before anything that the caller does next.
    void fill(std::span<const Record> intents);
    void clear();
    // The first intent that it was filled with, without its names. nullopt: it is not filled. Any
    // thread, if the caller keeps the slot's worker from filling it anew meanwhile.
    std::optional<Record> peek() const;

   private:
    friend class InFlight;
    std::byte* base_ = nullptr;
  };

  // What open() found.
  struct Found {
    bool existed = false;
    bool clean = false;      // the last mount ended by itself
    bool same_boot = false;  // the machine has not been restarted since
    bool records_lost = false;
    bool damaged = false;  // a filled slot holds no valid intent
    size_t filled = 0;     // slots
    // Intents of filled slots. Their views point into `storage`.
    std::vector<Record> intents;
    std::vector<std::unique_ptr<std::byte[]>> storage;
  };

  // Maps the file in the volume folder, or makes it, and reports what it held. The slots stay as
  // they are until start(), so that recovery can be repeated after a crash.
  static Result<std::unique_ptr<InFlight>> open(Storage& storage, int volume_dir, Found& found);
  ~InFlight();

  // Clears all slots, and notes this boot and "not clean", durably. records_lost: sets the mark,
  // because the gap for what was lost is not in the journal yet.
  Result<void> start(bool records_lost = false);
  // Notes a clean end, durably. No worker may be running.
  Result<void> finish();

  // Claims a slot for the calling thread. Null: all are taken.
  Slot* claim();
  void release(Slot* slot);

  void set_records_lost(bool lost);
  bool records_lost() const;

 private:
  InFlight() = default;
  struct Header;
  Header* header() const;

  Storage* storage_ = nullptr;
  int fd_ = -1;
  std::byte* map_ = nullptr;
  std::array<Slot, kInFlightSlots> slots_;
  std::array<std::atomic<bool>, kInFlightSlots> taken_{};
};

// What the file says, without mapping or changing anything. While a mount runs, slots change as
// they are read.
struct InFlightSeen {
  bool exists = false;
  bool started = false;  // a mount has used it; otherwise nothing that follows is known
  bool clean = false;
  bool same_boot = false;
  bool records_lost = false;
  uint64_t file_bytes = 0;
  std::vector<size_t> filled;   // slots
  std::vector<size_t> damaged;  // filled slots that hold no valid intent
};
constexpr uint64_t in_flight_slot_offset(size_t slot) {
  return kInFlightHeaderBytes + slot * kInFlightSlotBytes;
}
constexpr uint64_t kInFlightFileBytes = in_flight_slot_offset(kInFlightSlots);
// Errors: not such a file (kCorrupt), a newer version.
Result<InFlightSeen> look_at_in_flight(int volume_dir);

}  // namespace epochfs::journal
