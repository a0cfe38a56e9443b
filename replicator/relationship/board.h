// ProgressBoard: how does each relationship fare right now? In memory only: a restarted daemon
// begins with an empty board. What was agreed, and how far the target has come, is in the table
// (table.h).
//
// Threads: all methods, from any. Nothing here waits for the disk or the network.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "journal/base/mutex.h"
#include "replicator/relationship/table.h"
#include "replicator/relationship/watchers.h"

namespace epochfs::replicator {

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
  // The last transfer of everything, or the one under way.
  struct Comparison {
    uint64_t began_ns = 0, ended_ns = 0;  // 0: there was none; it is not complete
    std::string reason;
    uint64_t files = 0, differed = 0, bytes_sent = 0;
  };
  Comparison compared;
  // The epoch by which the target knows a transfer of subtrees that was broken off.
  EpochId subtrees_since{};
  uint64_t merged_forward = 0;  // epochs given up since the last that was committed
  // Tickets of ask(): drawn, and served.
  uint64_t asked = 0, served = 0;
};

class ProgressBoard {
 public:
  // The table says which relationships there are. It must outlive the board, and is looked at
  // under the board's lock.
  explicit ProgressBoard(const RelationshipTable& table) : table_(table) {}

  Progress get(const std::string& id) const;
  // Does nothing for a relationship that the table does not have.
  void update(const std::string& id, const std::function<void(Progress&)>& change);
  // After the table has removed the relationship.
  void forget(const std::string& id);

  // Asks the source of a relationship to replicate now, without waiting for its interval. Returns a
  // ticket: once `served` has reached it, everything that changed before the call is on the target.
  // 0: the table does not have the relationship.
  uint64_t ask(const std::string& id);

  // Signals after every update, which while data moves may be many times a second, and every ask.
  Watch watch(const std::string& id, LoopSignal& signal) { return updates_.watch(id, signal); }
  // Signals after every ask, and not after updates.
  Watch watch_asked(const std::string& id, LoopSignal& signal) { return asked_.watch(id, signal); }

 private:
  const RelationshipTable& table_;
  mutable Mutex mutex_;
  std::map<std::string, Progress> progress_ EPOCHFS_GUARDED_BY(mutex_);
  Watchers updates_, asked_;
};

}  // namespace epochfs::replicator
