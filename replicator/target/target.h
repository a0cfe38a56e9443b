// Target: what does one relationship's target directory hold, and how does the
// next epoch get into it? Owns stage, index and lock of the relationship; the
// order of events of a commit is here. Knows nothing of RPC (receiver.h).
//
// Threads: all methods from one thread, but state(), counters() and stop().
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "replicator/target/apply/apply.h"
#include "replicator/target/apply/old_tree.h"
#include "replicator/target/directory/folders.h"
#include "replicator/target/receive/stage.h"

namespace epochfs::replicator {

struct TargetOptions {
  std::string relationship;  // its id
  Uuid lineage;
  std::string directory;
  // The administrator accepted that the first epoch removes what is there.
  bool replace_contents = false;
  // open() succeeded before in the life of the relationship: from then on a
  // missing directory or stage is a lost target, not one to begin with. The
  // caller remembers it.
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
  // Opens it, and first of all finishes an epoch that was committed and not
  // applied: no source is needed for that. Checks that the directory is the one
  // of the relationship; a new one must be empty, or replace_contents. kBusy:
  // another session has the lock; stop() that one, and try again.
  static Outcome<std::unique_ptr<Target>> open(Storage& storage, const TargetOptions& options,
                                               Steps* steps = nullptr);
  ~Target();

  RecoveryPoint state() const;
  StageCounters counters() const;

  // A transfer: begin, then the stage's calls, then commit. begin again ends one
  // that was not committed; what is staged of it is kept if it can be of use.
  Outcome<void> begin(const TransferPlan& plan);
  // Null outside a transfer, and when the stage is of no more use in this one.
  Stage* stage();
  // Returns when the target holds the epoch, durably. The plan must be begin's,
  // except for what a full transfer names only now.
  Outcome<void> commit(const TransferPlan& plan);

  // Makes durable what has come of a transfer that will not go on for now.
  Result<void> checkpoint();
  // Removes what an applied epoch left in the stage's folders. Cheap when there
  // is nothing; otherwise begin() does it.
  Outcome<void> tidy();

  // From any thread: calls of the transfer fail from now on, so that the session
  // ends soon. A commit that is under way is finished.
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

  mutable std::mutex mutex_;  // guards what follows
  RecoveryPoint state_;
  StageCounters counters_;
};

// Ends a relationship's presence beside its target directory, which stays as it
// is: an epoch that was committed is applied first, where that is possible.
// kBusy as in open.
Outcome<void> remove_stage(Storage& storage, TargetOptions options);

}  // namespace epochfs::replicator
