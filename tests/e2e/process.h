// Process: how do tests run programs as a user at a shell would, without hanging on one or
// leaving one behind? Knows nothing of epochfs.
//
// A process that is started here dies with the thread that started it, even when the test
// program is killed. A process that it puts into the background does not. Processes are
// ended by their ids only.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "journal/base/unix.h"
#include "tests/support/failure.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {

struct Command {
  std::vector<std::string> argv;
  std::map<std::string, std::string> environment;  // on top of the test's own
  std::string directory;                           // to run in; empty: the test's own
};

struct Outcome {
  int status = -1;         // exit status; 128 + signal where one ended it
  bool timed_out = false;  // then it was killed
  std::string out, err;
};

// Runs a command to its end. Does not wait for what it leaves in the background.
Outcome run(const Command& command, Milliseconds timeout);

// For messages: the command as one could type it.
std::string as_typed(const Command& command);

// Exit status of a child as a shell has it; nullopt: it has not ended in time.
std::optional<int> wait_for_end(pid_t child, Milliseconds timeout);

// A process that runs beside the test. Killed with the object.
class Background {
 public:
  explicit Background(const Command& command);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  pid_t pid() const { return pid_; }
  // False once it has ended, whether or not somebody has asked for its status.
  bool running();
  // Exit status; nullopt: it still runs.
  std::optional<int> wait(Milliseconds timeout);
  void signal(int number);
  // SIGKILL. Returns when it is gone.
  void kill();

  // The first line of stdout or stderr that holds `text`; nullopt: none came before
  // the end of the process, or in time.
  std::optional<std::string> wait_for_line(const std::string& text, Milliseconds timeout);
  // All that it has said so far, on stdout and stderr.
  std::string said() const;

 private:
  void read_output();

  pid_t pid_ = -1;
  std::optional<int> status_;
  UniqueFd output_, stop_;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::string said_;
  bool output_ended_ = false;
  std::thread reader_;
};

}  // namespace epochfs::testing
