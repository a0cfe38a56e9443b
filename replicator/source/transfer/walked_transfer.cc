#include "replicator/source/transfer/walked_transfer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace epochfs::replicator {

WalkedTransfer::WalkedTransfer(TransferContext& c, const Plan& plan, EpochId since,
                               Progress::Phase phase, const char* what, const std::string& reason)
    : c_(c),
      plan_(plan),
      since_(since),
      meter_(c, phase),
      comparison_(c, what, reason),
      live_(c.volume.backing_dir(), nullptr) {
  plan_.full = true;
  plan_.root = c.volume.volume().info().identity.root;
  plan_.epoch = plan_.walk_since;  // it will be no older; commit says which it is
}

Result<void> WalkedTransfer::run(bool whole_tree) {
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
    EPOCHFS_TRY(journal::ChangeSet set,
                c_.volume.fold(since_, pinned.epoch, journal::Fold::Cancel::kKeep));
    if (set.gap) return begin_anew();
    EPOCHFS_TRY(bool more, walk_subtrees(set));
    if (!more) {
      EPOCHFS_TRY(more, walk_strays(set));
    }
    if (more) continue;
    if (auto sent = send(pinned, set); !sent) {
      if (!pinned.preimages || !pinned.preimages->given_up()) return sent;
      merge_forward(c_, given_up);
      continue;
    }
    return finish(pinned);
  }
}

Result<Lsn> WalkedTransfer::seal_of(EpochId epoch) const {
  EPOCHFS_TRY(auto sealed, sealed_epoch(c_.volume.volume(), epoch));
  return sealed ? sealed->seal : Lsn{0};
}

Result<void> WalkedTransfer::walk_everything() {
  meter_.expect(Walk::measure(c_.volume.backing_dir()));
  struct statx a;
  FileHandle root;
  if (int code = identify(c_.volume.backing_dir(), "", a, root); code != 0) {
    return fail("identify backing directory", -code);
  }
  EPOCHFS_TRY(all_walked_, seal_of(plan_.walk_since));
  return walk_->tree(plan_.root, root);
}

Result<bool> WalkedTransfer::walk_subtrees(const journal::ChangeSet& set) {
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

Result<bool> WalkedTransfer::walk_strays(const journal::ChangeSet& set) {
  bool any = false;
  for (const auto& [key, change] : set.names) {
    auto file = set.files.find(change.after);
    if (file == set.files.end() || walk_->sent(change.after)) continue;
    // The change set has all of a new file, and all names of a new directory, unless the
    // directory was below a subtree for a while.
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

Result<void> WalkedTransfer::send(PinnedEpoch& pinned, const journal::ChangeSet& set) {
  EpochReader reader = c_.volume.reader_of(pinned);
  EPOCHFS_TRY(auto sender, Sender::make(reader, *transfer_, c_.loop,
                                        [&, follow = meter_.follow(set)](const auto& now) {
                                          follow(now);
                                          comparison_.completed(now);
                                        }));
  EPOCHFS_TRY(Versions versions, Versions::read(c_.volume.volume(), since_, pinned.epoch));
  return send_change_set(*sender, set, versions);
}

Result<void> WalkedTransfer::finish(PinnedEpoch& pinned) {
  EPOCHFS_DO(c_.volume.confirm(c_.loop, pinned));
  EPOCHFS_DO(end_with(c_, plan_, pinned.epoch));
  EPOCHFS_DO(commit(c_, *transfer_, plan_));
  c_.board.update(c_.relationship, [](Progress& p) { ++p.epochs_sent; });
  comparison_.done();
  return {};
}

Result<void> WalkedTransfer::begin_anew() {
  EPOCHFS_DO(c_.table.update(c_.relationship, [](Relationship& r) -> Result<void> {
    r.walk_since = EpochId{0};
    return {};
  }));
  return fail("compare with the target: records went missing meanwhile; it begins anew");
}

}  // namespace epochfs::replicator
