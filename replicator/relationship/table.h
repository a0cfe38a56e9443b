// Registry: which relationships does this host have, and how does each one fare?
// The one table that sessions, the control socket and the console share. Every
// change of a relationship is durable before it is seen.
//
// Threads: all methods, from any. The lock is never held during I/O over the
// network; it is held while a relationship's file is replaced.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "replicator/relationship/loop_signal.h"
#include "replicator/relationship/relationship.h"

namespace epochfs::replicator {

// How a relationship fares right now; not kept on disk.
struct Progress {
  enum class Phase { kIdle, kInitialCopy, kReplicating };

  bool mounted = true;     // source: the volume is there
  std::string journal;     // its folder; empty: not seen yet, or gone
  bool connected = false;  // to the peer
  Phase phase = Phase::kIdle;
  std::string error;         // why the last try failed; empty: it did not
  bool unreachable = false;  // the error is that the peer does not answer

  EpochId sealed{};  // newest known on the source
  // Target: what the directory holds. (A source keeps its own in the relationship.)
  EpochId recovery_epoch{};
  uint64_t recovery_time_ns = 0;
  uint64_t files_sent = 0, bytes_read = 0, bytes_sent = 0, epochs_sent = 0;
  // Of the transfer under way: work is bytes plus a share for each file.
  uint64_t work_total = 0, work_done = 0;
  uint64_t transfer_began_ns = 0;
  // Of the last transfer of everything, or the one under way.
  struct Comparison {
    uint64_t began_ns = 0, ended_ns = 0;  // 0: none; not complete
    std::string reason;
    uint64_t files = 0, differed = 0, bytes_sent = 0;
  };
  Comparison compared;
  // Of a transfer of subtrees that was broken off: what the target knows it by.
  EpochId subtrees_since{};
  uint64_t merged_forward = 0;  // epochs given up since the last that was committed
  // `wait --idle` and `replicate`: tickets asked for, and served.
  uint64_t idle_asked = 0, idle_served = 0;
};

class Registry {
 public:
  static Result<std::unique_ptr<Registry>> open(Storage& storage, const std::string& state_dir);

  // All but those that were deleted here as target, which only get() knows: their
  // sources are still to hear of it.
  std::vector<Relationship> list() const;
  std::optional<Relationship> get(const std::string& id) const;
  // The one relationship whose id begins with `prefix`. Errors: none (kNoMatch), several.
  Result<Relationship> find(const std::string& prefix) const;

  Result<void> add(const Relationship& relationship);
  // Runs change on a copy; keeps it if change succeeds and it is saved.
  Result<void> update(const std::string& id,
                      const std::function<Result<void>(Relationship&)>& change);
  Result<void> remove(const std::string& id);

  Progress progress(const std::string& id) const;
  void set_progress(const std::string& id, const std::function<void(Progress&)>& change);

  // Signals every subscriber whenever something changed.
  void subscribe(LoopSignal* wakeup);
  void unsubscribe(LoopSignal* wakeup);

 private:
  explicit Registry(RelationshipStore store) : store_(std::move(store)) {}
  void notify();

  mutable std::mutex mutex_;
  RelationshipStore store_;
  std::map<std::string, Relationship> relationships_;
  std::map<std::string, Progress> progress_;
  std::set<LoopSignal*> subscribers_;
};

// What `status` shows of a relationship: the first match of the design's list.
void describe(const Relationship& relationship, const Progress& progress, uint64_t now_ns,
              rpc::Status::Builder out);
// Its state alone: "Target Unreachable (connect to b: Connection refused; retrying)".
std::string state_text(const Relationship& relationship, const Progress& progress, uint64_t now_ns);

}  // namespace epochfs::replicator
