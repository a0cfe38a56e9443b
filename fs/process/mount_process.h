// MountProcess: which parts make up the process of one mount, and in which order do they come and
// go? Wires all of fs/ together.
//
// prepare() checks what can be checked before it changes anything, then opens the volume and
// recovers its journal. serve() mounts, and lasts as long as the mount does.
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
  std::string backing;  // the directory that holds the data; empty: dir itself
  std::string state;
  std::string journal;  // empty: found or made below state
  MountOptions options;
};

class MountProcess {
 public:
  // Call it in the thread that will call serve(), before any other thread starts.
  static Result<std::unique_ptr<MountProcess>> prepare(const MountRequest& request);
  ~MountProcess();

  // Returns when the file system has been unmounted, by any process, and the journal is closed.
  // Another thread calls `ready` once the mount answers requests.
  Result<void> serve(const std::function<void(const MountProcess&)>& ready);

  const std::string& mountpoint() const { return mountpoint_; }
  const journal::Volume& volume() const { return *volume_; }
  const Filesystem& filesystem() const { return *filesystem_; }
  const journal::RecoveryReport& recovery() const { return recovery_; }
  // A damaged checkpoint that was found at the start: relationships that need it reconcile.
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

  // First, since a thread inherits the signal mask of the one that starts it.
  HeldSignals signals_{signals_to_end(), HeldSignals::Unasked::kIsDropped};
  std::string mountpoint_;
  MountOptions options_;
  Backing backing_;
  journal::VolumeIdentity identity_;
  std::atomic<dev_t> device_{0};  // of the mount; set once it is usable

  // In the order in which they are made.
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
