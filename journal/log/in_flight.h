// InFlight: what may have happened without having been recorded? A small mapped
// file with one slot for each worker thread. A worker writes the intent of a
// mutation into its slot, performs it, appends the record, and clears the slot.
// A slot found filled after a crash names objects that count as changed.
//
// The file also holds the marks that must survive kill -9 without a system
// call: the boot that wrote it, whether the last stop was clean, and whether
// records were lost for want of space.
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
    // Publishes the intent: encoded records, LSN 0. At most kMaxIntents. The
    // names and handles are copied. Ordered before whatever the caller does next.
    void fill(std::span<const Record> intents);
    void clear();
    // What it was filled with: the first intent, but for its names. nullopt: it is not
    // filled. From any thread that keeps its worker from filling it anew meanwhile.
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
    // Intents of filled slots; their views point into storage kept here.
    std::vector<Record> intents;
    std::vector<std::unique_ptr<std::byte[]>> storage;
  };

  // Maps (or makes) the file in the volume folder and reports what it held. The
  // slots stay as they are until start(): a crash during recovery repeats it.
  static Result<std::unique_ptr<InFlight>> open(Storage& storage, int volume_dir, Found& found);
  ~InFlight();

  // Clears all slots, notes this boot and "not clean". records_lost: the mark
  // stays, since what was lost is not in the journal yet.
  Result<void> start(bool records_lost = false);
  // Notes a clean end, durably. No worker may be running.
  Result<void> finish();

  // Claims a slot for the calling thread; nullptr when all are taken.
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

// What the file says to somebody who only looks: nothing is mapped or changed. While a
// mount runs, slots change as they are read.
struct InFlightSeen {
  bool exists = false;
  bool started = false;  // a mount has begun with it; else nothing that follows is known
  bool clean = false;
  bool same_boot = false;
  bool records_lost = false;
  uint64_t file_bytes = 0;
  std::vector<size_t> filled;   // slots
  std::vector<size_t> damaged;  // of those, the ones that hold no valid intent
};
constexpr uint64_t in_flight_slot_offset(size_t slot) {
  return kInFlightHeaderBytes + slot * kInFlightSlotBytes;
}
constexpr uint64_t kInFlightFileBytes = in_flight_slot_offset(kInFlightSlots);
// Errors: not such a file (kCorrupt), a newer version.
Result<InFlightSeen> look_at_in_flight(int volume_dir);

}  // namespace epochfs::journal
