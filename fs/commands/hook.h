// Hook: how does a command run what its caller gave it, to its end or to its timeout? As one
// command line of the shell, in a process group of its own, which ends as a whole.
//
// The hook reads nothing, and what it prints goes to stderr: stdout is for the command's own
// output. Knows nothing of barriers.
//
// Threads: one; no other may take signals or wait for children.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "journal/base/result.h"
#include "journal/base/signals.h"

namespace epochfs::fs {

struct Hook {
  std::string name;                                // begins every error: "--before"
  std::string command;                             // for /bin/sh -c
  std::map<std::string, std::string> environment;  // replaces, or adds to, the process's own
  std::chrono::milliseconds timeout{60'000};
  std::chrono::milliseconds grace{5'000};  // from SIGTERM to SIGKILL
};

// Returns when the hook has ended. Errors: kTimedOut if it took too long and was ended; kFailed if
// it could not be started, or ended by a signal or with another status than 0. With `end_early`,
// the hook is also ended when a signal comes or has come, which is kFailed, too.
//
// A process of its group that even SIGKILL does not end is left behind after another grace.
Result<void> run_hook(const Hook& hook, HeldSignals& signals, bool end_early);

}  // namespace epochfs::fs
