// RelationshipTable: which relationships does this host have, and what was agreed about each? Kept
// on disk: a change is durable before anybody sees it. Knows nothing of how a relationship fares
// (board.h).
//
// Threads: all methods, from any. A change waits for the disk and for other changes; a look never
// does.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "journal/base/mutex.h"
#include "replicator/relationship/relationship.h"
#include "replicator/relationship/watchers.h"

namespace epochfs::replicator {

class RelationshipTable {
 public:
  static Result<std::unique_ptr<RelationshipTable>> open(Storage& storage,
                                                         const std::string& state_dir);

  // All, except those that were deleted on this host as target. These are kept until their source
  // has heard of it, and only get() returns them.
  std::vector<Relationship> list() const;
  std::optional<Relationship> get(const std::string& id) const;
  bool contains(const std::string& id) const;
  // The one relationship whose id begins with `prefix`. Errors: there is none (kNoMatch), there are
  // several (kUsage), or it is damaged.
  Result<Relationship> find(const std::string& prefix) const;

  // Those whose files cannot be used. Their ids are taken. get() and list() leave them out, so
  // nothing runs for them.
  std::vector<DamagedRelationship> damaged() const;
  bool is_damaged(const std::string& id) const;
  // The one that find() refuses because it is damaged, if it is that.
  std::optional<DamagedRelationship> find_damaged(const std::string& prefix) const;

  Result<void> add(const Relationship& relationship);
  // Runs `change` on a copy, and keeps the copy if `change` succeeds and the copy is saved.
  // `change` may look at the table, but must not change it.
  Result<void> update(const std::string& id,
                      const std::function<Result<void>(Relationship&)>& change);
  // Also of a damaged one.
  Result<void> remove(const std::string& id);

  // Signals after every add, update and remove of this relationship.
  Watch watch(const std::string& id, LoopSignal& signal) { return watchers_.watch(id, signal); }

 private:
  explicit RelationshipTable(RelationshipStore store) : store_(std::move(store)) {}
  // Makes a saved relationship visible, and wakes its watchers.
  void show(const Relationship& relationship) EPOCHFS_EXCLUDES(mutex_);
  // The ids that begin with `prefix` and can be named by people.
  std::vector<std::string> matches(const std::string& prefix) const EPOCHFS_REQUIRES(mutex_);

  Mutex changing_;  // held through a whole change; taken before mutex_
  RelationshipStore store_ EPOCHFS_GUARDED_BY(changing_);
  mutable Mutex mutex_;
  std::map<std::string, Relationship> relationships_ EPOCHFS_GUARDED_BY(mutex_);
  std::map<std::string, DamagedRelationship> damaged_ EPOCHFS_GUARDED_BY(mutex_);
  Watchers watchers_;
};

}  // namespace epochfs::replicator
