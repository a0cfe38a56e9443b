// Commands of this folder: epochfs journal ...
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::journal {

// `epochfs journal SUBCOMMAND ...`. Returns the exit status. Works on a live
// volume or on a copied journal folder, and never disturbs the mount.
int journal_command(const Arguments& arguments);

}  // namespace epochfs::journal
