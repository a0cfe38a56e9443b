// ControlledMount: what can be controlled from outside? The parts of a mount that the control
// server and its jobs see.
#pragma once

#include <functional>
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

// The references must outlive the server.
struct ControlledMount {
  std::string mountpoint;
  std::string backing_path;
  int backing_dir = -1;  // open for reading, not O_PATH; passed to other processes
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
  uint64_t mounted_ns = 0;  // time of day
};

}  // namespace epochfs::fs
