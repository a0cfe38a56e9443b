// Control: what can other processes of this host ask of a mount? Serves the
// interface Mount of schema/control.capnp on the unix socket mount.sock in the
// volume's folder, to root only.
//
// Threads: one runs the event loop and never blocks; another does what takes time
// (a barrier, moving cursors), one call after the other. Neither is a worker of
// the mount, since a barrier waits for workers. A call that outlasts its timeout
// is answered without waiting for it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fs/housekeeping/housekeeper.h"
#include "fs/process/usage.h"
#include "fs/recording/barrier.h"
#include "fs/recording/pins.h"
#include "fs/recording/recorder.h"
#include "journal/log/journal.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {

// The mount, as far as it is served here. The references must outlive the server.
struct ControlledMount {
  std::string mountpoint;
  std::string backing_path;
  int backing_dir = -1;  // open for reading, not O_PATH; others get it
  journal::Volume& volume;
  journal::Journal& journal;
  Barrier& barrier;
  Pins& pins;
  Recorder& recorder;
  Housekeeper& housekeeper;
  // Writes the dirty pages of shared mappings into the mount, and waits for them.
  std::function<Result<void>()> flush_mappings;
  std::function<std::vector<std::string>()> features, missing;
  std::function<MountUsage()> usage = [] { return MountUsage{}; };
  uint64_t mounted_ns = 0;  // when
};

class ControlServer {
 public:
  // Listens. The mount must be answering already, and end only after the server.
  static Result<std::unique_ptr<ControlServer>> start(ControlledMount mount);
  // Drops every pin. A barrier that is under way is waited for.
  ~ControlServer();

 private:
  class Jobs;
  class HeldPin;
  class PinnedEpochServer;
  class BackingServer;
  class MountServer;
  struct Loop;

  explicit ControlServer(ControlledMount mount);
  void run_loop(UniqueFd listening);

  ControlledMount mount_;
  std::unique_ptr<Jobs> jobs_;
  std::unique_ptr<Loop> loop_;
};

}  // namespace epochfs::fs
