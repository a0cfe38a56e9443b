#include "replicator/source/transfers.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "journal/cursors.h"
#include "journal/reader.h"

namespace epochfs {
namespace {

// Between epochs that are given up one after the other. The first pause is the second time.
constexpr auto kFirstPause = 250 * kj::MILLISECONDS;
constexpr auto kLastPause = 5 * kj::SECONDS;

struct Plan {
  EpochId epoch{}, base{}, walk_since{};
  uint64_t barrier_time_ns = 0;
  uint64_t state_hash = 0;
  bool full = false;
  FileId root;
};

void write_plan(const Plan& plan, rpc::Plan::Builder out) {
  out.setEpoch(value(plan.epoch));
  out.setBase(value(plan.base));
  out.setBarrierTimeNs(plan.barrier_time_ns);
  out.setStateHash(plan.state_hash);
  out.setFull(plan.full);
  out.setWalkSince(value(plan.walk_since));
  set_file_id(out.initRoot(), plan.root.inode, plan.root.birth_ns);
}

// Makes the next transfer a full one, with a walk that begins now.
Result<EpochId> begin_new_walk(TransferContext& c) {
  EPOCHFS_TRY(EpochId since, c.volume.barrier(c.loop));
  EPOCHFS_DO(write_cursor(c.storage, c.volume.volume().dir(), c.relationship, {since, true}));
  c.volume.cursors_changed(c.loop);
  EPOCHFS_DO(c.registry.update(c.relationship, [&](Relationship& r) -> Result<void> {
    r.walk_since = since;
    return {};
  }));
  return since;
}

Result<void> outcome_of(TransferContext& c, rpc::Outcome::Reader outcome) {
  switch (outcome.which()) {
    case rpc::Outcome::OK: return {};
    case rpc::Outcome::FAILED: return fail("target: " + std::string(outcome.getFailed()));
    case rpc::Outcome::TARGET_LOST: return fail("target: " + std::string(outcome.getTargetLost()));
    case rpc::Outcome::UNKNOWN_STATE:
      EPOCHFS_TRY([[maybe_unused]] EpochId since, begin_new_walk(c));
      return fail("target: " + std::string(outcome.getUnknownState()) +
                  "; everything is compared anew");
  }
  return fail("target: an answer that this version does not know");
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

// Shows how far the transfer is, and adds what it sent to the totals.
class ProgressMeter {
 public:
  ProgressMeter(TransferContext& c, Progress::Phase phase) : c_(c) {
    c_.registry.set_progress(c_.relationship, [&](Progress& p) {
      p.phase = phase;
      p.work_total = 0;
      p.work_done = 0;
      p.transfer_began_ns = now_ns();
    });
  }
  ~ProgressMeter() {
    c_.registry.set_progress(c_.relationship,
                             [](Progress& p) { p.phase = Progress::Phase::kIdle; });
  }

  // For a Sender. Several senders of one transfer add up.
  std::function<void(const SenderCounters&)> follow(const ChangeSet& set) {
    uint64_t work = 0;
    for (const auto& [id, change] : set.files) work += Sender::foreseen_work_of(change);
    expect(work);
    return [this, meter = meter(), unforeseen = uint64_t{0}](const SenderCounters& now) mutable {
      expect(now.work_unforeseen - std::exchange(unforeseen, now.work_unforeseen));
      meter(now);
    };
  }
  std::function<void(const SenderCounters&)> follow_walk(uint64_t work) {
    expect(work);
    return meter();
  }

 private:
  void expect(uint64_t work) {
    if (work == 0) return;
    c_.registry.set_progress(c_.relationship, [&](Progress& p) { p.work_total += work; });
  }

  std::function<void(const SenderCounters&)> meter() {
    return [this, before = SenderCounters{}](const SenderCounters& now) mutable {
      c_.registry.set_progress(c_.relationship, [&](Progress& p) {
        p.files_sent += now.files - before.files;
        p.bytes_read += now.bytes_read - before.bytes_read;
        p.bytes_sent += now.bytes_sent - before.bytes_sent;
        p.work_done += now.work_done - before.work_done;
      });
      before = now;
    };
  }

  TransferContext& c_;
};

// Files first: a name may then never be without its file on the target's side of
// the connection.
Result<void> send_change_set(Sender& sender, const ChangeSet& set) {
  for (const auto& [id, change] : set.files) {
    EPOCHFS_TRY([[maybe_unused]] bool there, sender.file(id, change));
  }
  for (const auto& [key, change] : set.names) sender.name(key.parent, key.name, change.after);
  return sender.finish();
}

// Sends what the change set has moved and the walk has never seen. Returns whether
// there was any: what is read now is newer than the epoch, so another is due.
Result<bool> walk_strays(TransferContext& c, Walk& walk, const ChangeSet& set) {
  bool any = false;
  for (const auto& [key, change] : set.names) {
    auto file = set.files.find(change.after);
    if (file == set.files.end() || file->second.fresh || walk.sent(change.after)) continue;
    UniqueFd fd(open_handle(c.volume.backing_dir(), file->second.handle, O_PATH | O_NOFOLLOW));
    struct stat st;
    if (!fd || ::fstat(fd.get(), &st) != 0) continue;  // gone since
    EPOCHFS_DO(S_ISDIR(st.st_mode) ? walk.tree(change.after, file->second.handle)
                                   : walk.stray(change.after, file->second.handle));
    any = true;
  }
  return any;
}

// The epoch since which journal and walk together tell everything: that of the
// interrupted transfer if it still holds, a new one otherwise.
Result<EpochId> begin_walk(TransferContext& c) {
  auto relationship = c.registry.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  if (relationship->walk_since != EpochId{0}) {
    EPOCHFS_TRY(EpochId newest, c.volume.barrier(c.loop));
    if (newest >= relationship->walk_since) {
      EPOCHFS_TRY(auto set, c.volume.fold(relationship->walk_since, newest, Fold::Cancel::kKeep));
      if (!set.gap) return relationship->walk_since;
    }
  }
  return begin_new_walk(c);
}

// An epoch was given up; the caller pins the next. `times`: in a row, before this one.
void merge_forward(TransferContext& c, unsigned& times) {
  c.registry.set_progress(c.relationship, [](Progress& p) { ++p.merged_forward; });
  if (times > 0) {
    const kj::Duration pause = kFirstPause * (1 << std::min(times - 1, 8u));
    c.loop.wait(c.timer.afterDelay(std::min<kj::Duration>(pause, kLastPause)));
  }
  ++times;
}

void note_sealed(TransferContext& c, EpochId epoch) {
  c.registry.set_progress(c.relationship, [&](Progress& p) { p.sealed = epoch; });
}

// What the newest gap of a change set says.
std::string reason_of_gap(const Volume& volume, const ChangeSet& set) {
  std::string reason = "records are no longer there";
  if (set.gap_lsn == Lsn{0}) return reason;
  (void)JournalReader(volume).read(set.gap_lsn, [&](const Record& r) {
    if (r.lsn != set.gap_lsn || r.type != RecordType::kGap) return false;
    switch (GapReason(r.mode)) {
      case GapReason::kMachineStopped: reason = "the machine stopped"; break;
      case GapReason::kJournalFull: reason = "the journal was full"; break;
      case GapReason::kJournalDamaged: reason = "the journal was damaged"; break;
    }
    return false;
  });
  return reason;
}

// Says how a transfer of everything fares, and once what came of it. One that was broken
// off goes on under the reason and from the moment with which it began.
class ComparisonMeter {
 public:
  ComparisonMeter(TransferContext& c, const std::string& reason) : c_(c) {
    change([&](Progress::Comparison& compared) {
      const bool goes_on = compared.began_ns != 0 && compared.ended_ns == 0;
      if (!goes_on) compared = {.began_ns = now_ns(), .reason = reason};
      sent_before_ = compared.bytes_sent;
      compared.files = compared.differed = 0;  // all are looked at anew
    });
  }

  // For the senders: what the walk compares, and what is sent besides.
  void walked(const SenderCounters& now) { walked_ = now, show(); }
  void completed(const SenderCounters& now) { completed_ = now, show(); }

  void done() {
    Progress::Comparison result;
    change([&](Progress::Comparison& compared) {
      compared.ended_ns = now_ns();
      result = compared;
    });
    fmt::print(stderr, "epochfs serve: relationship {}: everything was compared with the target, "
                       "since {}: {} files in {:.1f} s, {} differed, {} bytes sent\n",
               c_.relationship, result.reason, result.files,
               double(result.ended_ns - result.began_ns) / 1e9, result.differed,
               result.bytes_sent);
  }

 private:
  void show() {
    change([&](Progress::Comparison& compared) {
      compared.files = walked_.compared;
      compared.differed = walked_.differed;
      compared.bytes_sent = sent_before_ + walked_.bytes_sent + completed_.bytes_sent;
    });
  }
  template <typename Change>
  void change(const Change& change) {
    c_.registry.set_progress(c_.relationship, [&](Progress& p) { change(p.compared); });
  }

  TransferContext& c_;
  uint64_t sent_before_ = 0;
  SenderCounters walked_, completed_;
};

}  // namespace

Result<void> advance_cursor(TransferContext& c, EpochId epoch, uint64_t state_hash,
                            uint64_t barrier_time_ns) {
  EPOCHFS_DO(c.registry.update(c.relationship, [&](Relationship& r) -> Result<void> {
    r.cursor = epoch;
    r.state_hash = state_hash;
    r.barrier_time_ns = barrier_time_ns;
    r.walk_since = EpochId{0};
    return {};
  }));
  EPOCHFS_DO(write_cursor(c.storage, c.volume.volume().dir(), c.relationship, {epoch}));
  c.volume.cursors_changed(c.loop);
  c.registry.set_progress(c.relationship, [](Progress& p) { p.merged_forward = 0; });
  return {};
}

namespace {

struct Shipped {
  enum { kAll, kUnknown, kGivenUp } how = kAll;
  std::string reason;  // of kUnknown
};

Result<Shipped> ship_changes(TransferContext& c) {
  auto relationship = c.registry.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  EPOCHFS_TRY(PinnedEpoch pinned, c.volume.pin(c.loop, relationship->cursor));
  note_sealed(c, pinned.epoch);
  if (pinned.nothing_changed) return Shipped{};
  EPOCHFS_TRY(ChangeSet set,
              c.volume.fold(relationship->cursor, pinned.epoch, Fold::Cancel::kDrop));
  if (set.gap) return Shipped{Shipped::kUnknown, reason_of_gap(c.volume.volume(), set)};

  Plan plan;
  plan.epoch = pinned.epoch;
  plan.base = relationship->cursor;
  plan.barrier_time_ns = pinned.barrier_time_ns;
  plan.state_hash = chain_state_hash(relationship->state_hash, c.relationship, plan.epoch);
  plan.root = c.volume.volume().info().identity.root;

  ProgressMeter meter(c, Progress::Phase::kReplicating);
  EPOCHFS_TRY(auto transfer, begin(c, plan));
  EpochReader reader(c.volume.backing_dir(), pinned.preimages.get());
  EPOCHFS_TRY(auto sender, Sender::make(reader, transfer, c.loop, meter.follow(set)));
  if (auto sent = send_change_set(*sender, set); !sent) {
    if (pinned.preimages->given_up()) return Shipped{Shipped::kGivenUp, {}};
    return tl::unexpected(sent.error());
  }
  EPOCHFS_DO(commit(c, transfer, plan));
  c.registry.set_progress(c.relationship, [](Progress& p) { ++p.epochs_sent; });
  return Shipped{};
}

}  // namespace

Result<std::optional<std::string>> replicate_changes(TransferContext& c) {
  for (unsigned given_up = 0;;) {
    EPOCHFS_TRY(Shipped shipped, ship_changes(c));
    if (shipped.how == Shipped::kAll) return std::optional<std::string>();
    if (shipped.how == Shipped::kUnknown) return std::optional(shipped.reason);
    merge_forward(c, given_up);
  }
}

Result<void> replicate_everything(TransferContext& c, EpochId base, const std::string& reason) {
  auto relationship = c.registry.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  ProgressMeter meter(c, base == EpochId{0} ? Progress::Phase::kInitialCopy
                                            : Progress::Phase::kReplicating);
  auto of_walk = meter.follow_walk(Walk::measure(c.volume.backing_dir()));
  ComparisonMeter comparison(c, reason);
  Plan plan;
  plan.full = true;
  plan.base = base;
  plan.root = c.volume.volume().info().identity.root;
  EPOCHFS_TRY(plan.walk_since, begin_walk(c));
  plan.epoch = plan.walk_since;  // the least that it will be; commit says which
  EPOCHFS_TRY(auto transfer, begin(c, plan));

  EpochReader live(c.volume.backing_dir(), nullptr);
  EPOCHFS_TRY(auto walker,
              Sender::make(live, transfer, c.loop,
                           [&, follow = std::move(of_walk)](const auto& now) {
                             follow(now);
                             comparison.walked(now);
                           }));
  Walk walk(live, *walker);
  struct statx a;
  FileHandle root;
  if (int code = identify(c.volume.backing_dir(), "", a, root); code != 0) {
    return fail("identify backing directory", -code);
  }
  EPOCHFS_DO(walk.tree(plan.root, root));
  for (unsigned given_up = 0;;) {
    EPOCHFS_DO(walker->finish());
    EPOCHFS_TRY(PinnedEpoch pinned, c.volume.pin(c.loop, plan.walk_since));
    note_sealed(c, pinned.epoch);
    EPOCHFS_TRY(ChangeSet set,
                c.volume.fold(plan.walk_since, pinned.epoch, Fold::Cancel::kKeep));
    if (set.gap) {
      EPOCHFS_DO(c.registry.update(c.relationship, [](Relationship& r) -> Result<void> {
        r.walk_since = EpochId{0};
        return {};
      }));
      return fail("copy everything: records went missing meanwhile; it begins anew");
    }
    EPOCHFS_TRY(bool strays, walk_strays(c, walk, set));
    if (strays) continue;

    EpochReader reader(c.volume.backing_dir(), pinned.preimages.get());
    EPOCHFS_TRY(auto sender,
                Sender::make(reader, transfer, c.loop,
                             [&, follow = meter.follow(set)](const auto& now) {
                               follow(now);
                               comparison.completed(now);
                             }));
    if (auto sent = send_change_set(*sender, set); !sent) {
      if (!pinned.preimages->given_up()) return sent;
      merge_forward(c, given_up);
      continue;
    }
    plan.epoch = pinned.epoch;
    plan.barrier_time_ns = pinned.barrier_time_ns;
    plan.state_hash = chain_state_hash(relationship->state_hash, c.relationship, plan.epoch);
    EPOCHFS_DO(commit(c, transfer, plan));
    c.registry.set_progress(c.relationship, [](Progress& p) { ++p.epochs_sent; });
    comparison.done();
    return {};
  }
}

}  // namespace epochfs
