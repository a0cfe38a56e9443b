#include "replicator/source/reading/volume_link.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "journal/changes/fold_epochs.h"
#include "journal/control/failure.h"

namespace epochfs::replicator {
namespace {

constexpr uint32_t kBarrierTimeoutMs = 10'000;

// A duplicate of the descriptor that came with a capability.
Result<UniqueFd> take_fd(Interruptible& loop, capnp::Capability::Client capability,
                         const char* what) {
  KJ_IF_MAYBE (fd, loop.wait(capability.getFd())) {
    UniqueFd copy(::fcntl(*fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno(fmt::format("take {} from mount", what));
    return copy;
  }
  return fail(fmt::format("take {} from mount: none came", what));
}

}  // namespace

Result<std::unique_ptr<VolumeLink>> VolumeLink::connect(kj::LowLevelAsyncIoProvider& provider,
                                                        Interruptible& loop,
                                                        const std::string& mountpoint) {
  auto path = journal::journal_path_of(mountpoint);
  if (!path) {
    path.error().status = ExitStatus::kUnreachable;
    return tl::unexpected(path.error());
  }
  EPOCHFS_TRY(journal::Volume volume, journal::Volume::open(*path));
  std::unique_ptr<VolumeLink> self(new VolumeLink(std::move(volume)));
  EPOCHFS_TRY(self->client_,
              UnixRpcClient::connect(provider, *path + "/" + journal::kControlSocket));
  auto mount = self->client_->bootstrap<rpc::Mount>();
  auto backing = loop.wait(mount.backingRequest().send()).getDirectory();
  EPOCHFS_TRY(self->backing_dir_, take_fd(loop, backing, "backing directory"));
  self->mount_ = kj::mv(mount);
  self->backing_ = kj::mv(backing);
  return self;
}

Result<EpochId> VolumeLink::barrier(Interruptible& loop) {
  auto request = KJ_ASSERT_NONNULL(mount_).barrierRequest();
  request.setOnlyIfChanged(true);
  request.setTimeoutMs(kBarrierTimeoutMs);
  auto reply = loop.wait(request.send());
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return EpochId{reply.getEpoch()};
}

Result<PinnedEpoch> VolumeLink::pin(Interruptible& loop, EpochId since) {
  auto request = KJ_ASSERT_NONNULL(mount_).barrierAndPinRequest();
  request.setSince(value(since));
  request.setOnlyIfChanged(true);
  request.setTimeoutMs(kBarrierTimeoutMs);
  auto reply = loop.wait(request.send());
  EPOCHFS_DO(read_failure(reply.getFailure()));
  PinnedEpoch pinned;
  pinned.epoch = EpochId{reply.getEpoch()};
  pinned.barrier_time_ns = reply.getBarrierTimeNs();
  if (!reply.hasPin()) {
    pinned.nothing_changed = true;
    return pinned;
  }
  auto pin = reply.getPin();
  EPOCHFS_TRY(UniqueFd log, take_fd(loop, pin, "pre-image log"));
  EPOCHFS_TRY(pinned.preimages, journal::PreImageReader::open(std::move(log)));
  pinned.pin = kj::mv(pin);
  return pinned;
}

Result<void> VolumeLink::confirm(Interruptible& loop, PinnedEpoch& pinned) {
  KJ_IF_MAYBE (pin, pinned.pin) {
    const bool held = loop.wait(pin->confirmRequest().send().ignoreResult().then(
        [] { return true; }, [](kj::Exception&&) { return false; }));
    if (!held) return fail("the mount ended while an epoch of it was shipped");
  }
  return {};
}

EpochReader VolumeLink::reader_of(PinnedEpoch& pinned) const {
  return EpochReader(
      backing_dir(), pinned.preimages.get(), [&pinned](const FileId& id, uint64_t offset) {
        KJ_IF_MAYBE (pin, pinned.pin) {
          if (std::exchange(*pinned.telling, true)) return;  // a later call says more
          auto request = pin->passedRequest();
          request.setInode(id.inode);
          request.setBirthNs(id.birth_ns);
          request.setOffset(offset);
          auto answered = [telling = pinned.telling] { *telling = false; };
          request.send().ignoreResult().then(std::move(answered)).detach([](kj::Exception&&) {
            // confirm() finds out before the commit.
          });
        }
      });
}

Result<journal::ChangeSet> VolumeLink::fold(EpochId since, EpochId until,
                                            journal::Fold::Cancel cancel) const {
  return journal::fold_epochs(volume_, since, until, cancel);
}

void VolumeLink::cursors_changed(Interruptible& loop) {
  loop.wait(KJ_ASSERT_NONNULL(mount_).cursorsChangedRequest().send().ignoreResult());
}

}  // namespace epochfs::replicator
