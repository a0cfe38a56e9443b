#include "replicator/source/transfer/transfer_calls.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/volume/cursors.h"

namespace epochfs::replicator {
namespace {

// Pauses between epochs that are given up in a row. There is none after the first one.
constexpr auto kFirstPause = 250 * kj::MILLISECONDS;
constexpr auto kLastPause = 5 * kj::SECONDS;

void write_plan(const Plan& plan, rpc::Plan::Builder out) {
  out.setEpoch(value(plan.epoch));
  out.setBase(value(plan.base));
  out.setBarrierTimeNs(plan.barrier_time_ns);
  out.setStateHash(plan.state_hash);
  out.setFull(plan.full);
  out.setWalkSince(value(plan.walk_since));
  journal::set_file_id(out.initRoot(), plan.root.inode, plan.root.birth_ns);
}

Result<void> outcome_of(TransferContext& c, rpc::Outcome::Reader outcome) {
  switch (outcome.which()) {
    case rpc::Outcome::OK: return {};
    case rpc::Outcome::FAILED: return fail("target: " + reason_of_peer(outcome.getFailed().cStr()));
    case rpc::Outcome::TARGET_LOST:
      return fail("target: " + reason_of_peer(outcome.getTargetLost().cStr()));
    case rpc::Outcome::UNKNOWN_STATE:
      EPOCHFS_TRY([[maybe_unused]] EpochId since, begin_new_walk(c));
      return fail("target: " + std::string(outcome.getUnknownState()) +
                  "; everything is compared anew");
  }
  return fail("target: an answer that this version does not know");
}

}  // namespace

Result<EpochId> begin_new_walk(TransferContext& c) {
  EPOCHFS_TRY(EpochId since, c.volume.barrier(c.loop));
  EPOCHFS_DO(
      journal::write_cursor(c.storage, c.volume.volume().dir(), c.relationship, {since, true}));
  c.volume.cursors_changed(c.loop);
  EPOCHFS_DO(c.table.update(c.relationship, [&](Relationship& r) -> Result<void> {
    r.walk_since = since;
    return {};
  }));
  return since;
}

Result<rpc::Transfer::Client> begin(TransferContext& c, const Plan& plan) {
  auto request = c.session.beginRequest();
  write_plan(plan, request.initPlan());
  auto reply = c.loop.wait(request.send());
  EPOCHFS_DO(outcome_of(c, reply.getOutcome()));
  return reply.getTransfer();
}

Result<void> commit(TransferContext& c, rpc::Transfer::Client& transfer, const Plan& plan) {
  auto request = transfer.commitRequest();
  write_plan(plan, request.initPlan());
  auto reply = c.loop.wait(request.send());
  EPOCHFS_DO(outcome_of(c, reply.getOutcome()));
  return advance_cursor(c, plan.epoch, plan.state_hash, plan.barrier_time_ns);
}

Result<void> end_with(TransferContext& c, Plan& plan, EpochId epoch) {
  auto relationship = c.table.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  EPOCHFS_TRY(auto sealed, sealed_epoch(c.volume.volume(), epoch));
  if (!sealed) {
    return fail(fmt::format("ship epoch {}: the manifest of journal {} does not have it",
                            value(epoch), c.volume.volume().path()));
  }
  plan.epoch = epoch;
  plan.barrier_time_ns = sealed->barrier_ns;
  plan.state_hash =
      state_hash_after(relationship->state_hash, relationship->id, relationship->lineage, *sealed);
  return {};
}

// Files come before names, so that the target never has a name without its file. They are sent
// in the order of their identities, so that the mount can be told how far the transfer is. That
// is also roughly their order on disk.
Result<void> send_change_set(Sender& sender, const journal::ChangeSet& set,
                             const Versions& versions) {
  std::vector<const std::pair<const FileId, journal::FileChange>*> files;
  files.reserve(set.files.size());
  for (const auto& file : set.files) files.push_back(&file);
  std::sort(files.begin(), files.end(), [](auto* a, auto* b) { return a->first < b->first; });
  for (const auto* file : files) {
    EPOCHFS_TRY([[maybe_unused]] bool there,
                sender.file(file->first, file->second, versions.of(file->second.last_data)));
  }
  for (const auto& [key, change] : set.names) sender.name(key.parent, key.name, change.after);
  return sender.finish();
}

void merge_forward(TransferContext& c, unsigned& times) {
  c.board.update(c.relationship, [](Progress& p) { ++p.merged_forward; });
  if (times > 0) {
    const kj::Duration pause = kFirstPause * (1 << std::min(times - 1, 8u));
    c.loop.wait(c.timer.afterDelay(std::min<kj::Duration>(pause, kLastPause)));
  }
  ++times;
}

void note_sealed(TransferContext& c, EpochId epoch) {
  c.board.update(c.relationship, [&](Progress& p) { p.sealed = epoch; });
}

Result<void> advance_cursor(TransferContext& c, EpochId epoch, uint64_t state_hash,
                            uint64_t barrier_time_ns) {
  EPOCHFS_DO(c.table.update(c.relationship, [&](Relationship& r) -> Result<void> {
    r.cursor = epoch;
    r.state_hash = state_hash;
    r.barrier_time_ns = barrier_time_ns;
    r.walk_since = EpochId{0};
    return {};
  }));
  // The comparison is over now, even if the session is interrupted before it can say so.
  c.board.update(c.relationship, [](Progress& p) {
    p.merged_forward = 0;
    p.subtrees_since = EpochId{0};
    if (p.compared.began_ns != 0 && p.compared.ended_ns == 0) p.compared.ended_ns = now_ns();
  });
  EPOCHFS_DO(journal::write_cursor(c.storage, c.volume.volume().dir(), c.relationship, {epoch}));
  c.volume.cursors_changed(c.loop);
  return {};
}

}  // namespace epochfs::replicator
