// MountProcess: what makes up the process of one mount, and in which order does it come
// and go? Wires everything in this folder together.
//
// prepare() checks what can be checked before it changes anything, then opens the volume
// and recovers its journal. serve() mounts and lasts as long as the mount does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "fs/base/mount_options.h"
#include "fs/housekeeping/housekeeper.h"
#include "fs/housekeeping/settler.h"
#include "fs/nodes/backing.h"
#include "fs/operations/filesystem.h"
#include "fs/process/control.h"
#include "fs/process/session.h"
#include "fs/recording/barrier.h"
#include "fs/recording/pins.h"
#include "fs/recording/recorder.h"
#include "journal/base/signals.h"
#include "journal/log/journal.h"

namespace epochfs::fs {

struct MountRequest {
  std::string dir;      // the mountpoint
  std::string backing;  // empty: dir itself
  std::string state;
  std::string journal;  // empty: found or made below state
  MountOptions options;
};

class MountProcess {
 public:
  // Call it in the thread that will call serve(), before any other thread is started.
  static Result<std::unique_ptr<MountProcess>> prepare(const MountRequest& request);
  ~MountProcess();

  // Returns when the file system has been unmounted, by whomever, and the journal is
  // closed. ready is called, by another thread, once the mount answers requests.
  Result<void> serve(const std::function<void(const MountProcess&)>& ready);

  const std::string& mountpoint() const { return mountpoint_; }
  const journal::Volume& volume() const { return *volume_; }
  const Filesystem& filesystem() const { return *filesystem_; }
  const journal::RecoveryReport& recovery() const { return recovery_; }
  // Of a checkpoint, found at the start: relationships that need it reconcile.
  const std::optional<Error>& damage() const { return damage_; }

 private:
  MountProcess() = default;
  Result<void> open_volume(const MountRequest& request);
  Result<void> open_journal();
  Result<void> run(const std::function<void(const MountProcess&)>& ready);
  Result<void> become_usable();
  Result<void> start_control();
  void leave();
  bool is_our_mount() const;

  // First and last: threads take the mask over from the one that starts them.
  HeldSignals signals_{signals_to_end(), HeldSignals::Unasked::kIsDropped};
  std::string mountpoint_;
  MountOptions options_;
  Backing backing_;
  journal::VolumeIdentity identity_;
  std::atomic<dev_t> device_{0};  // of the mount, once it is usable

  // In the order of their making.
  std::optional<journal::Volume> volume_;
  UniqueFd directory_lock_;
  journal::RecoveryReport recovery_;
  std::optional<Error> damage_;
  std::unique_ptr<journal::Journal> journal_;
  Barrier barrier_;
  std::unique_ptr<Pins> pins_;
  std::unique_ptr<journal::Checkpoints> checkpoints_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Settler> settler_;
  std::unique_ptr<Housekeeper> housekeeper_;
  std::unique_ptr<Filesystem> filesystem_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<ControlServer> control_;
};

}  // namespace epochfs::fs
