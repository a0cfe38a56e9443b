// PowerCutDisk: what would a power cut leave? The disk is a loop device over an image. The image
// lies on an XFS of its own, where a copy by reflink is taken in one moment: the copy holds
// what had reached the disk, and nothing that the kernel still keeps in memory.
//
// Nothing outlives the test. Images have no name outside the XFS, loop devices go with
// their last mount, and mounts lie in the host's folder, which its guard clears.
#pragma once

#include <optional>
#include <string>

#include "tests/e2e/host.h"

namespace epochfs::testing {

class PowerCutDisk {
 public:
  // Why there can be no such disk here, for GTEST_SKIP; nullopt: there can.
  static std::optional<std::string> why_not(const std::string& type);

  // type: ext4, xfs or btrfs. Mounted on `name` in the host's folder.
  PowerCutDisk(Host& host, const std::string& name, const std::string& type);

  const std::string& path() const { return path_; }

  // Notes what a power cut at this very moment would leave. Any thread.
  void cut();
  // Takes the disk away as it is, and mounts what cut() has noted. Nobody may use it.
  void restart();

 private:
  void attach();

  std::string type_, outer_, path_, loop_;
};

}  // namespace epochfs::testing
