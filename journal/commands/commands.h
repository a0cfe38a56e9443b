// Commands: how does main reach the commands of this folder?
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::journal {

// `epochfs journal SUBCOMMAND ...`. Returns the exit status. Works on a live volume or on a copy of
// a journal's folder, and never disturbs the mount.
int journal_command(const Arguments& arguments);

}  // namespace epochfs::journal
