// epochfs: continuous replication of a directory. This file only says which
// command is which.
#include <fmt/format.h>

#include <map>

#include "fs/commands/commands.h"
#include "journal/commands/commands.h"
#include "journal/control/standard_output.h"
#include "replicator/commands/commands.h"

namespace {

using epochfs::Arguments;

// Of relationships, which the daemon knows, or of a mount, which knows itself: an id has
// no slash.
int status_command(const Arguments& arguments) {
  bool names_directory = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    if (a == "--control") {
      ++i;  // what follows is a socket
    } else if (!a.starts_with("-")) {
      names_directory |= a.find('/') != a.npos || a == "." || a == "..";
    }
  }
  return names_directory ? epochfs::fs::mount_status_command(arguments)
                         : epochfs::replicator::status_command(arguments);
}

struct Command {
  int (*run)(const Arguments&);
  const char* what;
};

const std::map<std::string, Command> kCommands = {
    {"mount", {epochfs::fs::mount_command, "mount a directory and record its changes"}},
    {"unmount", {epochfs::fs::unmount_command, "end a mount"}},
    {"barrier", {epochfs::fs::barrier_command, "cut an epoch of a mounted directory"}},
    {"serve", {epochfs::replicator::serve_command, "run this host's daemon"}},
    {"relationship",
     {epochfs::replicator::relationship_command, "create and manage relationships"}},
    {"status", {status_command, "show how relationships fare, or a mount"}},
    {"wait", {epochfs::replicator::wait_command, "wait until the target holds an epoch"}},
    {"journal", {epochfs::journal::journal_command, "read the journal of a volume"}},
};

void print_help(FILE* out) {
  fmt::print(out, "usage: epochfs COMMAND ...\n\nContinuous replication of a directory.\n\n");
  for (const auto& [name, command] : kCommands) {
    fmt::print(out, "  {:<14}{}\n", name, command.what);
  }
  fmt::print(out,
             "\nEach command takes --help. Exit status: 0 ok, 1 failed, 2 usage, 3 partial or\n"
             "unhealthy, 4 nothing matched, 5 journal corrupt, 6 daemon unreachable, 7 not\n"
             "authorized, 8 timed out.\n");
}

int run(Arguments arguments) {
  if (arguments.empty()) {
    print_help(stderr);
    return static_cast<int>(epochfs::ExitStatus::kUsage);
  }
  const std::string name = arguments[0];
  arguments.erase(arguments.begin());
  if (name == "--help" || name == "-h" || name == "help") {
    print_help(stdout);
    return 0;
  }
  if (name == "--version") {
    fmt::print("epochfs {}\n", EPOCHFS_VERSION);
    return 0;
  }
  auto command = kCommands.find(name);
  if (command == kCommands.end()) {
    return epochfs::report(
        {"unknown command \"" + name + "\"; see: epochfs --help", 0, epochfs::ExitStatus::kUsage});
  }
  return command->second.run(arguments);
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argv + 1, argv + argc);
  return epochfs::run_and_flush([&] { return run(arguments); });
}
