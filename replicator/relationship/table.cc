#include "replicator/relationship/table.h"

#include <fmt/format.h>

namespace epochfs::replicator {

namespace {

// Deleted on this host as target. Kept only to tell the source so.
bool is_tombstone(const Relationship& r) {
  return r.role == rpc::Role::TARGET && r.decision == Decision::kDeleted;
}

}  // namespace

Result<std::unique_ptr<RelationshipTable>> RelationshipTable::open(Storage& storage,
                                                                   const std::string& state_dir) {
  EPOCHFS_TRY(auto store, RelationshipStore::open(storage, state_dir));
  EPOCHFS_TRY(auto all, store.load());
  std::unique_ptr<RelationshipTable> self(new RelationshipTable(std::move(store)));
  for (const auto& relationship : all) self->show(relationship);
  return self;
}

std::vector<Relationship> RelationshipTable::list() const {
  Lock lock(mutex_);
  std::vector<Relationship> out;
  for (const auto& [id, relationship] : relationships_) {
    if (!is_tombstone(relationship)) out.push_back(relationship);
  }
  return out;
}

bool RelationshipTable::contains(const std::string& id) const {
  Lock lock(mutex_);
  return relationships_.count(id) > 0;
}

std::optional<Relationship> RelationshipTable::get(const std::string& id) const {
  Lock lock(mutex_);
  auto at = relationships_.find(id);
  if (at == relationships_.end()) return std::nullopt;
  return at->second;
}

Result<Relationship> RelationshipTable::find(const std::string& prefix) const {
  Lock lock(mutex_);
  std::vector<const Relationship*> matches;
  for (auto at = relationships_.lower_bound(prefix);
       at != relationships_.end() && at->first.starts_with(prefix); ++at) {
    if (!is_tombstone(at->second)) matches.push_back(&at->second);
  }
  if (prefix.empty() || matches.empty()) {
    return fail(fmt::format("no relationship \"{}\"; see: epochfs relationship list", prefix), 0,
                ExitStatus::kNoMatch);
  }
  if (matches.size() > 1) {
    return fail(fmt::format("relationship \"{}\" is ambiguous: {} and {}", prefix, matches[0]->id,
                            matches[1]->id),
                0, ExitStatus::kUsage);
  }
  return *matches[0];
}

Result<void> RelationshipTable::add(const Relationship& relationship) {
  Lock changing(changing_);
  {
    Lock lock(mutex_);
    if (relationships_.count(relationship.id)) {
      return fail("relationship " + relationship.id + " exists already");
    }
    if (relationships_.size() >= kMaxRelationships) {
      return fail(
          fmt::format("this host has {} relationships already, the most it takes; delete "
                      "one that has ended",
                      relationships_.size()));
    }
  }
  EPOCHFS_DO(store_.save(relationship));
  show(relationship);
  return {};
}

Result<void> RelationshipTable::update(const std::string& id,
                                       const std::function<Result<void>(Relationship&)>& change) {
  Lock changing(changing_);
  auto changed = get(id);
  if (!changed) return fail("no relationship \"" + id + "\"", 0, ExitStatus::kNoMatch);
  EPOCHFS_DO(change(*changed));
  EPOCHFS_DO(store_.save(*changed));
  show(*changed);
  return {};
}

Result<void> RelationshipTable::remove(const std::string& id) {
  Lock changing(changing_);
  EPOCHFS_DO(store_.remove(id));
  {
    Lock lock(mutex_);
    relationships_.erase(id);
  }
  watchers_.wake(id);
  return {};
}

void RelationshipTable::show(const Relationship& relationship) {
  {
    Lock lock(mutex_);
    relationships_.insert_or_assign(relationship.id, relationship);
  }
  watchers_.wake(relationship.id);
}

}  // namespace epochfs::replicator
