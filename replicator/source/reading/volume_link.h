// VolumeLink: what does a session need of the volume that it replicates? The
// mount's control connection, the backing directory, the journal's folder.
#pragma once

#include <memory>
#include <optional>

#include "journal/changes/change_set.h"
#include "journal/control/unix_rpc.h"
#include "journal/preimages/preimages.h"
#include "journal/volume/volume.h"
#include "replicator/source/reading/epoch_reader.h"
#include "replicator/source/reading/interruptible.h"
#include "schema/control.capnp.h"

namespace epochfs::replicator {

// A sealed epoch whose content stays readable as long as this lives.
struct PinnedEpoch {
  EpochId epoch{};
  uint64_t barrier_time_ns = 0;
  bool nothing_changed = false;  // then epoch is the `since` of the pin, and nothing is pinned
  std::unique_ptr<journal::PreImageReader> preimages;
  kj::Maybe<rpc::PinnedEpoch::Client> pin;
  std::shared_ptr<bool> telling = std::make_shared<bool>(false);  // what its reader has passed
};

class VolumeLink {
 public:
  // Connects to the mount at mountpoint. Errors: not mounted (status kUnreachable).
  static Result<std::unique_ptr<VolumeLink>> connect(kj::LowLevelAsyncIoProvider& provider,
                                                     Interruptible& loop,
                                                     const std::string& mountpoint);

  const journal::Volume& volume() const { return volume_; }
  int backing_dir() const { return backing_dir_.get(); }
  Result<journal::VolumeIdentity> identity() const {
    return journal::identify_volume(backing_dir());
  }

  // Seals what is open, if anything is; the newest sealed epoch.
  Result<EpochId> barrier(Interruptible& loop);
  Result<PinnedEpoch> pin(Interruptible& loop, EpochId since);
  // After the last read, and before anybody is told that this was the epoch: whether it
  // was pinned all the while. An error: the mount has ended, and what another one let be
  // overwritten since is in no log.
  Result<void> confirm(Interruptible& loop, PinnedEpoch& pinned);
  // A reader of what is pinned, which tells the mount how far it is, so that nothing is
  // saved in vain. Borrows `pinned`. It can be read once.
  EpochReader reader_of(PinnedEpoch& pinned) const;

  // Net effect of (since, until]. An epoch that the journal no longer holds comes
  // out as a gap.
  Result<journal::ChangeSet> fold(EpochId since, EpochId until, journal::Fold::Cancel cancel) const;

  void cursors_changed(Interruptible& loop);
  kj::Promise<void> on_disconnect() { return client_->on_disconnect(); }

 private:
  explicit VolumeLink(journal::Volume volume) : volume_(std::move(volume)) {}

  journal::Volume volume_;
  std::unique_ptr<UnixRpcClient> client_;
  kj::Maybe<rpc::Mount::Client> mount_;
  kj::Maybe<rpc::BackingDirectory::Client> backing_;
  UniqueFd backing_dir_;
};

}  // namespace epochfs::replicator
