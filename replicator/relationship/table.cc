#include "replicator/relationship/table.h"

#include <fmt/format.h>

namespace epochfs::replicator {

namespace {

// Deleted on the target; kept only to tell the source so.
bool is_tombstone(const Relationship& r) {
  return r.role == rpc::Role::TARGET && r.decision == Decision::kDeleted;
}

}  // namespace

Result<std::unique_ptr<Registry>> Registry::open(Storage& storage, const std::string& state_dir) {
  EPOCHFS_TRY(auto store, RelationshipStore::open(storage, state_dir));
  std::unique_ptr<Registry> self(new Registry(std::move(store)));
  EPOCHFS_TRY(auto all, self->store_.load());
  for (auto& relationship : all) {
    std::string id = relationship.id;
    self->relationships_.emplace(id, std::move(relationship));
  }
  return self;
}

std::vector<Relationship> Registry::list() const {
  std::lock_guard lock(mutex_);
  std::vector<Relationship> out;
  for (const auto& [id, relationship] : relationships_) {
    if (!is_tombstone(relationship)) out.push_back(relationship);
  }
  return out;
}

std::optional<Relationship> Registry::get(const std::string& id) const {
  std::lock_guard lock(mutex_);
  auto at = relationships_.find(id);
  if (at == relationships_.end()) return std::nullopt;
  return at->second;
}

Result<Relationship> Registry::find(const std::string& prefix) const {
  std::lock_guard lock(mutex_);
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

Result<void> Registry::add(const Relationship& relationship) {
  std::lock_guard lock(mutex_);
  if (relationships_.count(relationship.id)) {
    return fail("relationship " + relationship.id + " exists already");
  }
  if (relationships_.size() >= kMaxRelationships) {
    return fail(
        fmt::format("this host has {} relationships already, the most it takes; delete "
                    "one that has ended",
                    relationships_.size()));
  }
  EPOCHFS_DO(store_.save(relationship));
  relationships_.emplace(relationship.id, relationship);
  notify();
  return {};
}

Result<void> Registry::update(const std::string& id,
                              const std::function<Result<void>(Relationship&)>& change) {
  std::lock_guard lock(mutex_);
  auto at = relationships_.find(id);
  if (at == relationships_.end()) {
    return fail("no relationship \"" + id + "\"", 0, ExitStatus::kNoMatch);
  }
  Relationship changed = at->second;
  EPOCHFS_DO(change(changed));
  EPOCHFS_DO(store_.save(changed));
  at->second = std::move(changed);
  notify();
  return {};
}

Result<void> Registry::remove(const std::string& id) {
  std::lock_guard lock(mutex_);
  EPOCHFS_DO(store_.remove(id));
  relationships_.erase(id);
  progress_.erase(id);
  notify();
  return {};
}

Progress Registry::progress(const std::string& id) const {
  std::lock_guard lock(mutex_);
  auto at = progress_.find(id);
  return at == progress_.end() ? Progress{} : at->second;
}

void Registry::set_progress(const std::string& id, const std::function<void(Progress&)>& change) {
  std::lock_guard lock(mutex_);
  if (!relationships_.count(id)) return;
  change(progress_[id]);
  notify();
}

void Registry::subscribe(LoopSignal* wakeup) {
  std::lock_guard lock(mutex_);
  subscribers_.insert(wakeup);
}

void Registry::unsubscribe(LoopSignal* wakeup) {
  std::lock_guard lock(mutex_);
  subscribers_.erase(wakeup);
}

void Registry::notify() {
  for (LoopSignal* wakeup : subscribers_) wakeup->signal();
}

namespace {

struct Shown {
  std::string state, detail;
};

std::string ended_reason(const Relationship& r) {
  if (!r.ended.empty()) return r.ended;
  if (r.decision == Decision::kDeclined) return "declined by the target's administrator";
  if (r.decision == Decision::kDeleted) {
    return r.role == rpc::Role::SOURCE ? "deleted on the other host" : "deleted on this host";
  }
  return "";
}

float percent_of(const Progress& p) {
  if (p.work_total == 0) return 0;
  return std::min(99.9f, 100.0f * float(p.work_done) / float(p.work_total));
}

int64_t seconds_left(const Progress& p, uint64_t now_ns) {
  if (p.work_done == 0 || p.work_total <= p.work_done || now_ns <= p.transfer_began_ns) return -1;
  double spent = double(now_ns - p.transfer_began_ns) / 1e9;
  return int64_t(spent * double(p.work_total - p.work_done) / double(p.work_done) + 0.5);
}

// What an administrator should know who wonders why it takes so long.
std::string merged_forward(const Progress& p) {
  if (p.merged_forward == 0) return "";
  return fmt::format(
      "; began again with a newer epoch ({}), since more was overwritten meanwhile "
      "than the journal has room to save",
      p.merged_forward == 1 ? "once" : fmt::format("{} times", p.merged_forward));
}

Shown shown(const Relationship& r, const Progress& p, uint64_t now_ns) {
  const auto now =
      BlackoutSchedule::TimePoint(std::chrono::duration_cast<BlackoutSchedule::TimePoint::duration>(
          std::chrono::nanoseconds(now_ns)));
  const bool source = r.role == rpc::Role::SOURCE;
  if (auto reason = ended_reason(r); !reason.empty()) return {"Ended", reason};
  if (r.decision == Decision::kPending) {
    return {"Awaiting Authorization", source && p.unreachable ? p.error : ""};
  }
  if (source && !p.mounted) return {"Disconnected", p.error};
  if (!source && !p.connected) return {"Disconnected", "the source is not connected"};
  if (!r.enabled) return {"Off", ""};
  if (r.blackouts.active(now)) {
    auto until = r.blackouts.next_change(now);
    return {"Blackout Window", until ? "until " + r.blackouts.local_text(*until) : ""};
  }
  if (p.unreachable) return {"Target Unreachable", p.error + "; retrying"};
  if (!p.error.empty()) return {"Failed", p.error + "; will retry"};
  if (p.phase == Progress::Phase::kInitialCopy || (source && r.cursor == EpochId{0})) {
    return {"Initial Copy", fmt::format("{:.1f} %", percent_of(p)) + merged_forward(p)};
  }
  if (p.phase == Progress::Phase::kReplicating || p.merged_forward > 0) {
    std::string detail = fmt::format("{:.1f} %", percent_of(p));
    if (int64_t left = seconds_left(p, now_ns); left >= 0)
      detail += fmt::format(", {} s left", left);
    return {"Replicating", detail + merged_forward(p)};
  }
  return {"Up to Date", ""};
}

}  // namespace

std::string state_text(const Relationship& r, const Progress& p, uint64_t now_ns) {
  const Shown s = shown(r, p, now_ns);
  return s.detail.empty() ? s.state : fmt::format("{} ({})", s.state, s.detail);
}

void describe(const Relationship& r, const Progress& p, uint64_t now_ns, rpc::Status::Builder out) {
  const bool source = r.role == rpc::Role::SOURCE;
  Shown s = shown(r, p, now_ns);
  out.setId(r.id);
  out.setRole(r.role);
  out.setSourceDirectory(r.source_directory);
  out.setTargetDirectory(r.target_directory);
  out.setPeer(source ? fmt::format("{}:{}", r.peer, r.port) : r.peer);
  out.setState(s.state);
  out.setDetail(s.detail);
  out.setRecoveryEpoch(value(source ? r.cursor : p.recovery_epoch));
  out.setRecoveryTimeNs(source ? r.barrier_time_ns : p.recovery_time_ns);
  out.setSealedEpoch(value(p.sealed));
  out.setFilesSent(p.files_sent);
  out.setBytesRead(p.bytes_read);
  out.setBytesSent(p.bytes_sent);
  out.setEpochsSent(p.epochs_sent);
  bool moving = p.phase != Progress::Phase::kIdle;
  out.setPercent(moving ? percent_of(p) : -1);
  out.setSecondsLeft(moving ? seconds_left(p, now_ns) : -1);
  out.setLastError(p.error);
  out.setComparedBeganNs(p.compared.began_ns);
  out.setComparedEndedNs(p.compared.ended_ns);
  out.setComparedReason(p.compared.reason);
  out.setFilesCompared(p.compared.files);
  out.setFilesDiffered(p.compared.differed);
  out.setComparedBytesSent(p.compared.bytes_sent);
}

}  // namespace epochfs::replicator
