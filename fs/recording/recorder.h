// Recorder: how does a mutation get into the journal, with its pre-images saved first? Every
// mutating operation of the mount runs as
//
//   Recorder::Mutation m(recorder, worker, intent, touched);
//   int r = the system call on the backing file;
//   if (r == 0) m.commit();          // appended before the reply to the kernel
//
// The constructor enters the barrier, fills the worker's in-flight slot, and saves the pre-images
// that a pinned epoch still needs of `touched`. The destructor clears the slot and leaves the
// barrier. Without commit() nothing is recorded, which is right only if nothing changed.
//
// Threads: each worker has its own Worker; the recorder itself is shared.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <span>

#include "fs/recording/barrier.h"
#include "fs/recording/touched.h"
#include "journal/base/mutex.h"
#include "journal/log/journal.h"
#include "journal/log/record.h"

namespace epochfs::fs {

class Pins;

// What a thread of the mount needs to record mutations. Each thread has its own.
struct Worker {
  Barrier::Seat* seat = nullptr;
  journal::InFlight::Slot* slot = nullptr;
};

class Recorder {
 public:
  // backing_dir: any open file of the backing file system, to open handles with. last_sealed: the
  // newest epoch that the journal held when it was opened (read_last_epoch); without it, the first
  // barrier() always seals. All are borrowed.
  Recorder(journal::Journal& journal, Barrier& barrier, Pins& pins, int backing_dir,
           std::optional<journal::SealedEpoch> last_sealed = {});

  // Registers the calling thread. nullopt: all kInFlightSlots are taken.
  std::optional<Worker> add_worker();
  void remove_worker(Worker& worker);

  class Mutation {
   public:
    // The names in intent, and touched, must live until the destructor. touched must list every
    // file whose bytes or attributes the operation changes, including parents.
    Mutation(Recorder& recorder, Worker& worker, const journal::Record& intent,
             std::span<const Touched> touched);
    ~Mutation();
    Mutation(const Mutation&) = delete;
    Mutation& operator=(const Mutation&) = delete;

    // The record to append. Before commit(), fill in what only the system call could tell: the new
    // file's identity and handle, the bytes really written.
    journal::Record& record() { return record_; }
    // One more file has changed: the new file itself, for example.
    void also_dirty(const FileId& id, ByteRange data);
    void commit();
    // Appends a second record of the same mutation, for example of what a rename left behind. After
    // commit().
    void commit_also(journal::Record record);

   private:
    Recorder& recorder_;
    Worker& worker_;
    journal::Record record_;
    std::span<const Touched> touched_;
    bool committed_ = false;
  };

  // While on, mutations wait before they begin. Any thread.
  void hold(bool on);
  // While one lives, no mutation is held. Dirty pages of mappings come in as writes, and they must
  // come in before an epoch is cut; and only a cut and shipped epoch makes room.
  class LetPass {
   public:
    explicit LetPass(Recorder& recorder) : held_(recorder.held_) {
      held_ += kPass;
      held_.notify_all();
    }
    ~LetPass() { held_ -= kPass; }
    LetPass(const LetPass&) = delete;
    LetPass& operator=(const LetPass&) = delete;

   private:
    std::atomic<uint32_t>& held_;
  };

  // Makes the journal durable: the part of every fsync that comes before the data.
  Result<void> sync() { return journal_.sync(); }

  // Seals the open epoch behind the barrier and publishes it durably. With only_if_changed and an
  // empty open epoch, returns the newest sealed one instead. `at_seal`, if given, runs inside the
  // barrier right after the seal (a pin is set there); it must be short and must not throw.
  //
  // An error of status kTimedOut: nothing was sealed. Any other error: an epoch may be sealed and
  // not yet durable. Then at_seal has run, what it set is void, and the next call makes that epoch
  // durable before it seals another.
  Result<journal::SealedEpoch> barrier(
      bool only_if_changed, std::chrono::milliseconds timeout,
      const std::function<void(const journal::SealedEpoch&)>& at_seal = {});
  // The newest epoch if nothing has changed since it was sealed; it is made durable first if it was
  // not. nullopt: something has changed. Errors as for barrier().
  Result<std::optional<journal::SealedEpoch>> newest_if_unchanged(
      std::chrono::milliseconds timeout);
  // The newest epoch that is sealed and durable.
  std::optional<journal::SealedEpoch> last_sealed() const;

 private:
  friend class Mutation;
  class Turn;
  void wait_while_held();
  Result<journal::SealedEpoch> barrier_in_turn(
      bool only_if_changed, std::chrono::milliseconds timeout,
      const std::function<void(const journal::SealedEpoch&)>& at_seal);
  Result<void> publish_what_is_owed();
  journal::SealedEpoch seal();

  journal::Journal& journal_;
  Barrier& barrier_;
  Pins& pins_;
  int backing_dir_;
  // Mutations wait while it is kHeld alone; each LetPass adds kPass.
  static constexpr uint32_t kHeld = 1, kPass = 2;
  std::atomic<uint32_t> held_{0};
  // One barrier() at a time, from seal to publication, so that the manifest stays in order.
  Mutex turn_mutex_;
  Condition turn_over_;
  bool turn_taken_ EPOCHFS_GUARDED_BY(turn_mutex_) = false;
  // Sealed, but not published. Belongs to the one whose turn it is.
  std::optional<journal::SealedEpoch> unpublished_;
  mutable Mutex sealed_mutex_;
  std::optional<journal::SealedEpoch> last_sealed_ EPOCHFS_GUARDED_BY(sealed_mutex_);
};

}  // namespace epochfs::fs
