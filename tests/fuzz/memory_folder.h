// A folder in memory, where there is some, for all inputs of one process.
#pragma once

#include <unistd.h>

#include <cstdlib>

#include "tests/support/temporary_directory.h"

namespace epochfs::fuzz {

inline const testing::TemporaryDirectory& memory_folder() {
  if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 1);
  static const testing::TemporaryDirectory dir;
  return dir;
}

}  // namespace epochfs::fuzz
