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
  EPOCHFS_TRY(auto loaded, store.load());
  std::unique_ptr<RelationshipTable> self(new RelationshipTable(std::move(store)));
  for (const auto& relationship : loaded.sound) self->show(relationship);
  Lock lock(self->mutex_);
  for (auto& damaged : loaded.damaged) self->damaged_.emplace(damaged.id, std::move(damaged));
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
  const std::vector<std::string> ids = matches(prefix);
  if (prefix.empty() || ids.empty()) {
    return fail(fmt::format("no relationship \"{}\"; see: epochfs relationship list", prefix), 0,
                ExitStatus::kNoMatch);
  }
  if (ids.size() > 1) {
    return fail(fmt::format("relationship \"{}\" is ambiguous: {} and {}", prefix, ids[0], ids[1]),
                0, ExitStatus::kUsage);
  }
  if (auto at = damaged_.find(ids[0]); at != damaged_.end()) {
    return fail(fmt::format("relationship {} is damaged: {}", ids[0], damage_text(at->second)));
  }
  return relationships_.at(ids[0]);
}

std::vector<std::string> RelationshipTable::matches(const std::string& prefix) const {
  std::vector<std::string> ids;
  for (auto at = relationships_.lower_bound(prefix);
       at != relationships_.end() && at->first.starts_with(prefix); ++at) {
    if (!is_tombstone(at->second)) ids.push_back(at->first);
  }
  for (auto at = damaged_.lower_bound(prefix);
       at != damaged_.end() && at->first.starts_with(prefix); ++at) {
    ids.push_back(at->first);
  }
  return ids;
}

std::vector<DamagedRelationship> RelationshipTable::damaged() const {
  Lock lock(mutex_);
  std::vector<DamagedRelationship> out;
  for (const auto& [id, damaged] : damaged_) out.push_back(damaged);
  return out;
}

bool RelationshipTable::is_damaged(const std::string& id) const {
  Lock lock(mutex_);
  return damaged_.count(id) > 0;
}

std::optional<DamagedRelationship> RelationshipTable::find_damaged(
    const std::string& prefix) const {
  Lock lock(mutex_);
  const std::vector<std::string> ids = matches(prefix);
  if (prefix.empty() || ids.size() != 1) return std::nullopt;
  auto at = damaged_.find(ids[0]);
  return at == damaged_.end() ? std::nullopt : std::optional(at->second);
}

Result<void> RelationshipTable::add(const Relationship& relationship) {
  Lock changing(changing_);
  {
    Lock lock(mutex_);
    if (relationships_.count(relationship.id)) {
      return fail("relationship " + relationship.id + " exists already");
    }
    if (auto at = damaged_.find(relationship.id); at != damaged_.end()) {
      return fail(fmt::format("add relationship {}: one of this id is damaged here: {}",
                              relationship.id, damage_text(at->second)));
    }
    const size_t count = relationships_.size() + damaged_.size();
    if (count >= kMaxRelationships) {
      return fail(
          fmt::format("this host has {} relationships already, the most it takes; delete "
                      "one that has ended",
                      count));
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
    damaged_.erase(id);
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
