#include "replicator/relationship/status.h"

#include <fmt/format.h>

namespace epochfs::replicator {
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

// Tells an administrator who wonders why it takes so long.
std::string merged_forward(const Progress& p) {
  if (p.merged_forward == 0) return "";
  return fmt::format(
      "; began again with a newer epoch ({}), since more was overwritten meanwhile "
      "than the journal has room to save",
      p.merged_forward == 1 ? "once" : fmt::format("{} times", p.merged_forward));
}

Shown shown(const Relationship& r, const Progress& p, const Clock& clock) {
  const auto now = clock.now();
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
    if (int64_t left = seconds_left(p, clock.now_ns()); left >= 0)
      detail += fmt::format(", {} s left", left);
    return {"Replicating", detail + merged_forward(p)};
  }
  return {"Up to Date", ""};
}

void describe_sides(const Relationship& r, rpc::Status::Builder out) {
  out.setId(r.id);
  out.setRole(r.role);
  out.setSourceDirectory(r.source_directory);
  out.setTargetDirectory(r.target_directory);
  out.setPeer(r.role == rpc::Role::SOURCE ? fmt::format("{}:{}", r.peer, r.port) : r.peer);
}

}  // namespace

std::string state_text(const Relationship& r, const Progress& p, const Clock& clock) {
  const Shown s = shown(r, p, clock);
  return s.detail.empty() ? s.state : fmt::format("{} ({})", s.state, s.detail);
}

void describe_damaged(const DamagedRelationship& damaged, rpc::Status::Builder out) {
  describe_sides(damaged.readable, out);
  out.setState("Damaged");
  out.setDetail(damage_text(damaged));
  out.setPercent(-1);
  out.setSecondsLeft(-1);
  out.setLastError(damaged.reason);
}

void describe(const Relationship& r, const Progress& p, const Clock& clock,
              rpc::Status::Builder out) {
  const bool source = r.role == rpc::Role::SOURCE;
  Shown s = shown(r, p, clock);
  describe_sides(r, out);
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
  out.setSecondsLeft(moving ? seconds_left(p, clock.now_ns()) : -1);
  out.setLastError(p.error);
  out.setComparedBeganNs(p.compared.began_ns);
  out.setComparedEndedNs(p.compared.ended_ns);
  out.setComparedReason(p.compared.reason);
  out.setFilesCompared(p.compared.files);
  out.setFilesDiffered(p.compared.differed);
  out.setComparedBytesSent(p.compared.bytes_sent);
}

}  // namespace epochfs::replicator
