// VolumeLink: how does a session reach the volume that it replicates? Holds the mount's control
// connection, the backing directory and the journal's folder. One thread.
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

// A sealed epoch. Its content stays readable as long as this object lives and the mount runs.
struct PinnedEpoch {
  EpochId epoch{};
  uint64_t barrier_time_ns = 0;
  bool nothing_changed = false;  // then nothing is pinned, and epoch is the pin's `since`
  std::unique_ptr<journal::PreImageReader> preimages;
  kj::Maybe<rpc::PinnedEpoch::Client> pin;
  std::shared_ptr<bool> telling = std::make_shared<bool>(false);  // a passed() is under way
};

class VolumeLink {
 public:
  // Connects to the mount at mountpoint. Fails with status kUnreachable if nothing is mounted.
  static Result<std::unique_ptr<VolumeLink>> connect(kj::LowLevelAsyncIoProvider& provider,
                                                     Interruptible& loop,
                                                     const std::string& mountpoint);

  const journal::Volume& volume() const { return volume_; }
  int backing_dir() const { return backing_dir_.get(); }
  Result<journal::VolumeIdentity> identity() const {
    return journal::identify_volume(backing_dir());
  }

  // Seals the open epoch if anything changed in it. Returns the newest sealed epoch.
  Result<EpochId> barrier(Interruptible& loop);
  // Seals and pins an epoch, so that everything that changed in (since, it] stays readable.
  Result<PinnedEpoch> pin(Interruptible& loop, EpochId since);
  // Checks that the epoch stayed pinned. Call it after the last read and before the commit.
  // Fails if the mount has ended: a later mount saves nothing for this pin.
  Result<void> confirm(Interruptible& loop, PinnedEpoch& pinned);
  // A reader of the pinned epoch. It tells the mount how far it has read, so that the mount
  // saves nothing that was read already. Therefore the epoch can be read only once. Borrows
  // `pinned`.
  EpochReader reader_of(PinnedEpoch& pinned) const;

  // The net effect of the epochs (since, until]. If the journal no longer has all of them, the
  // change set has a gap.
  Result<journal::ChangeSet> fold(EpochId since, EpochId until, journal::Fold::Cancel cancel) const;

  // Tells the mount that a cursor of the journal was written.
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
