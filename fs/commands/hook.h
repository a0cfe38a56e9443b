// Hook: how does a command run what its caller gave it, to its end or to its timeout? One
// command line of the shell in a process group of its own, which ends as a whole.
//
// It reads nothing, and what it prints goes to stderr: stdout is for what the command
// itself has to say. Knows nothing of barriers.
//
// Threads: one, and no other that takes signals or waits for children.
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

// Returns when the hook has ended. Errors: kTimedOut when it had to be ended; kFailed when it
// could not be started, or ended with another status than 0 or by a signal. `end_early`: so it
// does too, and is ended, when a signal comes or has come.
//
// A process of its group that even SIGKILL does not end is left behind after another grace.
Result<void> run_hook(const Hook& hook, HeldSignals& signals, bool end_early);

}  // namespace epochfs::fs
