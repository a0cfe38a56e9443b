#include "replicator/source/transfer/transfers.h"

#include "journal/log/reader.h"
#include "journal/volume/cursors.h"
#include "replicator/source/transfer/meters.h"
#include "replicator/source/transfer/transfer_calls.h"
#include "replicator/source/transfer/walked_transfer.h"

namespace epochfs::replicator {
namespace {

// Why the newest gap of a change set came about.
std::string reason_of_gap(const journal::Volume& volume, const journal::ChangeSet& set) {
  std::string reason = "records are no longer there";
  if (set.gap_lsn == Lsn{0}) return reason;
  (void)journal::JournalReader(volume).read(set.gap_lsn, [&](const journal::Record& r) {
    if (r.lsn != set.gap_lsn || r.type != journal::RecordType::kGap) return false;
    switch (journal::GapReason(r.mode)) {
      case journal::GapReason::kMachineStopped: reason = "the machine stopped"; break;
      case journal::GapReason::kJournalFull: reason = "the journal was full"; break;
      case journal::GapReason::kJournalDamaged: reason = "the journal was damaged"; break;
    }
    return false;
  });
  return reason;
}

struct Shipped {
  enum { kAll, kUnknown, kSubtrees, kGivenUp } how = kAll;
  std::string reason;  // of kUnknown
};

Result<Shipped> ship_changes(TransferContext& c) {
  auto relationship = c.table.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  EPOCHFS_TRY(PinnedEpoch pinned, c.volume.pin(c.loop, relationship->cursor));
  note_sealed(c, pinned.epoch);
  if (pinned.nothing_changed) return Shipped{};
  EPOCHFS_TRY(journal::ChangeSet set,
              c.volume.fold(relationship->cursor, pinned.epoch, journal::Fold::Cancel::kDrop));
  if (set.gap) return Shipped{Shipped::kUnknown, reason_of_gap(c.volume.volume(), set)};
  if (set.subtrees) return Shipped{Shipped::kSubtrees, {}};

  Plan plan;
  plan.base = relationship->cursor;
  EPOCHFS_DO(end_with(c, plan, pinned.epoch));
  plan.root = c.volume.volume().info().identity.root;

  EPOCHFS_TRY(Versions versions,
              Versions::read(c.volume.volume(), relationship->cursor, pinned.epoch));

  ProgressMeter meter(c, Progress::Phase::kReplicating);
  EPOCHFS_TRY(auto transfer, begin(c, plan));
  EpochReader reader = c.volume.reader_of(pinned);
  EPOCHFS_TRY(auto sender, Sender::make(reader, transfer, c.loop, meter.follow(set)));
  if (auto sent = send_change_set(*sender, set, versions); !sent) {
    if (pinned.preimages->given_up()) return Shipped{Shipped::kGivenUp, {}};
    return tl::unexpected(sent.error());
  }
  EPOCHFS_DO(c.volume.confirm(c.loop, pinned));
  EPOCHFS_DO(commit(c, transfer, plan));
  c.board.update(c.relationship, [](Progress& p) { ++p.epochs_sent; });
  return Shipped{};
}

// The epoch since which journal and walk together cover every change. An interrupted transfer
// goes on with its epoch, unless the journal has had a gap since.
Result<EpochId> begin_walk(TransferContext& c) {
  auto relationship = c.table.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  if (relationship->walk_since != EpochId{0}) {
    EPOCHFS_TRY(EpochId newest, c.volume.barrier(c.loop));
    if (newest >= relationship->walk_since) {
      EPOCHFS_TRY(auto set,
                  c.volume.fold(relationship->walk_since, newest, journal::Fold::Cancel::kKeep));
      if (!set.gap) return relationship->walk_since;
    }
  }
  return begin_new_walk(c);
}

// Ships what changed since the cursor, where the journal says of some subtrees only that
// something changed below them. The cursor stays; it now asks the journal to keep names that
// come and go.
Result<void> replicate_subtrees(TransferContext& c) {
  auto relationship = c.table.get(c.relationship);
  if (!relationship) return fail("relationship is gone");
  const EpochId base = relationship->cursor;
  EPOCHFS_DO(
      journal::write_cursor(c.storage, c.volume.volume().dir(), c.relationship, {base, true}));
  c.volume.cursors_changed(c.loop);
  Plan plan;
  plan.base = base;
  plan.walk_since = c.board.get(c.relationship).subtrees_since;
  if (plan.walk_since <= base) {
    EPOCHFS_TRY(plan.walk_since, c.volume.barrier(c.loop));
    c.board.update(c.relationship, [&](Progress& p) { p.subtrees_since = plan.walk_since; });
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
  const auto phase =
      base == EpochId{0} ? Progress::Phase::kInitialCopy : Progress::Phase::kReplicating;
  WalkedTransfer transfer(c, plan, plan.walk_since, phase, "everything", reason);
  return transfer.run(true);
}

}  // namespace epochfs::replicator
