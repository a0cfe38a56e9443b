// StandardOutput: how does a command end whose output cannot be written? Where the reader has gone,
// as in `epochfs status | head -2`, it ends without a word by SIGPIPE, as other programs do. Where
// there is no room, it says so and fails. Nothing is lost in silence.
#pragma once

#include <functional>

namespace epochfs {

// Runs a command, and returns its exit status once all that it printed is written.
int run_and_flush(const std::function<int()>& command);

// Hands what was printed so far to the kernel. Throws std::system_error, as fmt::print does, which
// ends the command: run_and_flush() catches it.
void flush_output();

}  // namespace epochfs
