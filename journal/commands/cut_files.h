// CutFiles: what does a command read that has a file mapped which another process cuts?
//
// The kernel answers such a read with SIGBUS. While this lives, the page reads as zeros instead, as
// if nothing had been written there. So a cut segment ends early, and what is missing is named.
//
// For a process that maps files for reading only. It changes the process's handler of SIGBUS, and
// puts the one before it back at its end. Main thread; it serves all threads.
#pragma once

#include <csignal>

namespace epochfs::journal {

class CutFilesReadAsZeros {
 public:
  CutFilesReadAsZeros();
  ~CutFilesReadAsZeros();
  CutFilesReadAsZeros(const CutFilesReadAsZeros&) = delete;

 private:
  struct sigaction before_;
};

}  // namespace epochfs::journal
