#include "replicator/source/transfers.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "journal/cursors.h"
#include "journal/epochs.h"
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
  // The same of a walk, whose work is to be expected by the caller.
  std::function<void(const SenderCounters&)> follow_walk() { return meter(); }
  void expect(uint64_t work) {
    if (work == 0) return;
    c_.registry.set_progress(c_.relationship, [&](Progress& p) { p.work_total += work; });
  }

 private:

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
  // what: is compared.
  ComparisonMeter(TransferContext& c, const char* what, const std::string& reason)
      : c_(c), what_(what) {
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
    fmt::print(stderr, "epochfs serve: relationship {}: {} was compared with the target, "
                       "since {}: {} files in {:.1f} s, {} differed, {} bytes sent\n",
               c_.relationship, what_, result.reason, result.files,
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
  const char* what_;
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
  enum { kAll, kUnknown, kSubtrees, kGivenUp } how = kAll;
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
  if (set.subtrees) return Shipped{Shipped::kSubtrees, {}};

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

// A transfer that begins with the tree as it is, all of it or some subtrees, and becomes
// exact at the epoch that it ends with: that is sent since `since`, when everything that was
// walked was as it is now or has changed later.
class WalkedTransfer {
 public:
  // What is compared, and why.
  WalkedTransfer(TransferContext& c, const Plan& plan, EpochId since, Progress::Phase phase,
                 const char* what, const std::string& reason)
      : c_(c), plan_(plan), since_(since), meter_(c, phase), comparison_(c, what, reason),
        live_(c.volume.backing_dir(), nullptr) {
    plan_.full = true;
    plan_.root = c.volume.volume().info().identity.root;
    plan_.epoch = plan_.walk_since;  // the least that it will be; commit says which
  }

  Result<void> run(bool whole_tree) {
    EPOCHFS_TRY(transfer_, begin(c_, plan_));
    EPOCHFS_TRY(walker_, Sender::make(live_, *transfer_, c_.loop,
                                      [&, follow = meter_.follow_walk()](const auto& now) {
                                        follow(now);
                                        comparison_.walked(now);
                                      }));
    walk_.emplace(live_, *walker_);
    if (whole_tree) EPOCHFS_DO(walk_everything());
    for (unsigned given_up = 0;;) {
      EPOCHFS_DO(walker_->finish());
      EPOCHFS_TRY(PinnedEpoch pinned, c_.volume.pin(c_.loop, since_));
      note_sealed(c_, pinned.epoch);
      EPOCHFS_TRY(ChangeSet set, c_.volume.fold(since_, pinned.epoch, Fold::Cancel::kKeep));
      if (set.gap) return begin_anew();
      EPOCHFS_TRY(bool more, walk_subtrees(set));
      if (!more) {
        EPOCHFS_TRY(more, walk_strays(set));
      }
      if (more) continue;
      if (auto sent = send(pinned, set); !sent) {
        if (!pinned.preimages->given_up()) return sent;
        merge_forward(c_, given_up);
        continue;
      }
      return finish(pinned);
    }
  }

 private:
  Result<Lsn> seal_of(EpochId epoch) const {
    EPOCHFS_TRY(auto sealed, read_epoch(c_.volume.volume().dir(), epoch));
    return sealed && sealed->epoch == epoch ? sealed->seal : Lsn{0};
  }

  Result<void> walk_everything() {
    meter_.expect(Walk::measure(c_.volume.backing_dir()));
    struct statx a;
    FileHandle root;
    if (int code = identify(c_.volume.backing_dir(), "", a, root); code != 0) {
      return fail("identify backing directory", -code);
    }
    EPOCHFS_TRY(all_walked_, seal_of(plan_.walk_since));
    return walk_->tree(plan_.root, root);
  }

  // Of subtrees the set tells only what came after a record of theirs: those that were not
  // walked since. Returns whether there were any, and another epoch is due.
  Result<bool> walk_subtrees(const ChangeSet& set) {
    if (!set.subtrees) return false;
    std::vector<std::pair<FileId, FileHandle>> due;
    for (const auto& [id, change] : set.files) {
      if (!change.subtree) continue;
      auto walked = walked_.find(id);
      const Lsn seen = walked == walked_.end() ? all_walked_ : walked->second;
      if (change.last_data > seen) due.emplace_back(id, change.handle);
    }
    if (due.empty()) return false;
    EPOCHFS_TRY(EpochId before, c_.volume.barrier(c_.loop));
    EPOCHFS_TRY(Lsn seal, seal_of(before));
    for (const auto& [id, handle] : due) {
      UniqueFd fd(open_handle(c_.volume.backing_dir(), handle, O_PATH | O_DIRECTORY));
      if (fd) meter_.expect(Walk::measure(fd.get()));
      EPOCHFS_DO(walk_->tree_anew(id, handle));
      walked_[id] = seal;
    }
    return true;
  }

  // Sends what the change set has moved and the walk has never seen. Returns whether
  // there was any: what is read now is newer than the epoch, so another is due.
  Result<bool> walk_strays(const ChangeSet& set) {
    bool any = false;
    for (const auto& [key, change] : set.names) {
      auto file = set.files.find(change.after);
      if (file == set.files.end() || walk_->sent(change.after)) continue;
      // What a new file holds is told, and what is in a new directory, unless it was below
      // a subtree for a while.
      if (file->second.fresh && !set.subtrees) continue;
      UniqueFd fd(open_handle(c_.volume.backing_dir(), file->second.handle, O_PATH | O_NOFOLLOW));
      struct stat st;
      if (!fd || ::fstat(fd.get(), &st) != 0) continue;  // gone since
      if (file->second.fresh && !S_ISDIR(st.st_mode)) continue;
      EPOCHFS_DO(S_ISDIR(st.st_mode) ? walk_->tree(change.after, file->second.handle)
                                     : walk_->stray(change.after, file->second.handle));
      any = true;
    }
    return any;
  }

  Result<void> send(const PinnedEpoch& pinned, const ChangeSet& set) {
    EpochReader reader(c_.volume.backing_dir(), pinned.preimages.get());
    EPOCHFS_TRY(auto sender, Sender::make(reader, *transfer_, c_.loop,
                                          [&, follow = meter_.follow(set)](const auto& now) {
                                            follow(now);
                                            comparison_.completed(now);
                                          }));
    return send_change_set(*sender, set);
  }

  Result<void> finish(const PinnedEpoch& pinned) {
    auto relationship = c_.registry.get(c_.relationship);
    if (!relationship) return fail("relationship is gone");
    plan_.epoch = pinned.epoch;
    plan_.barrier_time_ns = pinned.barrier_time_ns;
    plan_.state_hash = chain_state_hash(relationship->state_hash, c_.relationship, plan_.epoch);
    EPOCHFS_DO(commit(c_, *transfer_, plan_));
    c_.registry.set_progress(c_.relationship, [](Progress& p) {
      ++p.epochs_sent;
      p.subtrees_since = EpochId{0};
    });
    comparison_.done();
    return {};
  }

  Result<void> begin_anew() {
    EPOCHFS_DO(c_.registry.update(c_.relationship, [](Relationship& r) -> Result<void> {
      r.walk_since = EpochId{0};
      return {};
    }));
    return fail("compare with the target: records went missing meanwhile; it begins anew");
  }

  TransferContext& c_;
  Plan plan_;
  const EpochId since_;
  ProgressMeter meter_;
  ComparisonMeter comparison_;
  EpochReader live_;
  std::optional<rpc::Transfer::Client> transfer_;
  std::unique_ptr<Sender> walker_;
  std::optional<Walk> walk_;
  Lsn all_walked_{};                       // all subtrees were, behind this seal
  std::unordered_map<FileId, Lsn> walked_;  // and this one behind this
};

// Ships what changed since the cursor, where the journal tells of some subtrees only that
// something did. The cursor stays, but says that names which come and go are to be told.
Result<void> replicate_subtrees(TransferContext& c) {
  auto relationship = c.registry.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  const EpochId base = relationship->cursor;
  EPOCHFS_DO(write_cursor(c.storage, c.volume.volume().dir(), c.relationship, {base, true}));
  c.volume.cursors_changed(c.loop);
  Plan plan;
  plan.base = base;
  plan.walk_since = c.registry.progress(c.relationship).subtrees_since;
  if (plan.walk_since <= base) {
    EPOCHFS_TRY(plan.walk_since, c.volume.barrier(c.loop));
    c.registry.set_progress(c.relationship,
                            [&](Progress& p) { p.subtrees_since = plan.walk_since; });
  }
  WalkedTransfer transfer(c, plan, base, Progress::Phase::kReplicating, "some of the tree",
                          "the journal had room to tell only where something changed");
  return transfer.run(false);
}

}  // namespace

Result<std::optional<std::string>> replicate_changes(TransferContext& c) {
  for (unsigned given_up = 0;;) {
    EPOCHFS_TRY(Shipped shipped, ship_changes(c));
    if (shipped.how == Shipped::kAll) return std::optional<std::string>();
    if (shipped.how == Shipped::kUnknown) return std::optional(shipped.reason);
    if (shipped.how == Shipped::kSubtrees) {
      EPOCHFS_DO(replicate_subtrees(c));
      return std::optional<std::string>();
    }
    merge_forward(c, given_up);
  }
}

Result<void> replicate_everything(TransferContext& c, EpochId base, const std::string& reason) {
  Plan plan;
  plan.base = base;
  EPOCHFS_TRY(plan.walk_since, begin_walk(c));
  const auto phase = base == EpochId{0} ? Progress::Phase::kInitialCopy
                                        : Progress::Phase::kReplicating;
  WalkedTransfer transfer(c, plan, plan.walk_since, phase, "everything", reason);
  return transfer.run(true);
}

}  // namespace epochfs
