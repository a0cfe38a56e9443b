// Control: what can other processes of this host ask of a mount? Serves the interface Mount of
// schema/control.capnp on the unix socket mount.sock in the volume's folder, to root only.
//
// Threads: one runs the event loop and never blocks. Another does what takes time (a barrier,
// moving cursors), one call after the other (jobs.h). Neither is a worker of the mount, since a
// barrier waits for workers. A call that takes longer than its timeout is answered without waiting
// for it to end.
#pragma once

#include <memory>

#include "fs/process/controlled_mount.h"

namespace epochfs::fs {

class Jobs;

class ControlServer {
 public:
  // Listens. The mount must already answer requests, and must end only after the server.
  static Result<std::unique_ptr<ControlServer>> start(ControlledMount mount);
  // Drops every pin. Waits for a barrier that is under way.
  ~ControlServer();

 private:
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
