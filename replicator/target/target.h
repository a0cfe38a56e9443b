// Target: what does the target directory of one relationship hold, and how does the next epoch get
// into it? Owns stage, index and lock of the relationship, and defines the order of a commit.
// Does not know RPC (receiver.h).
//
// Threads: state(), counters() and stop() from any thread, all other methods from one.
#pragma once

#include <atomic>
#include <memory>

#include "journal/base/mutex.h"
#include "replicator/target/apply/apply.h"
#include "replicator/target/apply/old_tree.h"
#include "replicator/target/directory/folders.h"
#include "replicator/target/receive/stage.h"

namespace epochfs::replicator {

struct TargetOptions {
  std::string relationship;  // its id
  Uuid lineage;
  std::string directory;
  // The administrator accepted that the first epoch replaces what is there.
  bool replace_contents = false;
  // open() has succeeded before in the life of the relationship. From then on a missing directory
  // or stage means a lost target, not a new one. The caller remembers it.
  bool established = false;
  size_t index_map_bytes = kIndexMapBytes;
};

struct RecoveryPoint {
  uint64_t cursor = 0;  // 0: none
  uint64_t state_hash = 0;
  uint64_t barrier_ns = 0;
  uint64_t staged_base = 0;  // rpc::TargetState.stagedBase
};

class Target {
 public:
  // Opens the target. If an epoch was committed but not applied, applies it first; that needs no
  // source. Checks that the directory belongs to the relationship. A new directory must be empty,
  // unless replace_contents. kBusy: another session has the lock; stop() that one and try again.
  static Outcome<std::unique_ptr<Target>> open(Storage& storage, const TargetOptions& options,
                                               Steps* steps = nullptr);
  ~Target();

  const std::string& relationship() const { return options_.relationship; }  // any thread
  RecoveryPoint state() const;
  StageCounters counters() const;

  // A transfer is begin, then calls of the stage, then commit. Another begin ends a transfer that
  // was not committed; what it staged is kept if the new one can use it.
  Outcome<void> begin(const TransferPlan& plan);
  // Null: no transfer is under way, or this one can no longer be committed.
  Stage* stage();
  // Returns when the target holds the epoch durably. The plan must equal begin's, except for the
  // fields that a full transfer sets only now: epoch, barrier time and state hash.
  Outcome<void> commit(const TransferPlan& plan);

  // Makes durable what was received, for when a transfer stops before its commit.
  Result<void> checkpoint();
  // Removes what an applied epoch left in the folders of the stage. Optional: begin() does it,
  // too. Cheap if there is nothing.
  Outcome<void> tidy();

  // Any thread. Calls of the transfer fail from now on, so that the session ends soon. A commit
  // that is under way is finished.
  void stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

 private:
  Target(Storage& storage, const TargetOptions& options, Steps& steps);
  Outcome<void> open_index();
  Outcome<void> adopt();
  Outcome<void> recognize();
  Outcome<void> check_plan(const TransferPlan& plan) const;
  Outcome<bool> check_pristine() const;
  Outcome<void> mark(const TransferPlan& plan, bool pristine);
  Outcome<void> prepare(FileId root);
  Outcome<void> apply();
  Result<void> abandon();
  void publish_state();

  Storage& storage_;
  TargetOptions options_;
  Steps& steps_;
  Folders folders_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<OldTree> tree_;
  std::unique_ptr<Stage> stage_;
  TransferPlan plan_;
  bool transferring_ = false;
  bool untidy_ = false;
  std::atomic<bool> stopped_ = false;

  mutable Mutex mutex_;
  RecoveryPoint state_ EPOCHFS_GUARDED_BY(mutex_);
  StageCounters counters_ EPOCHFS_GUARDED_BY(mutex_);
};

// Removes the stage of a relationship that has ended. Applies an epoch that was committed first,
// if that is possible. Otherwise does not touch the target directory. kBusy: see open.
Outcome<void> remove_stage(Storage& storage, TargetOptions options);

}  // namespace epochfs::replicator
