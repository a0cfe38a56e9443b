// Subcommands of `epochfs journal`, each in a file of its own name. Arguments are those
// behind the subcommand; what they return is the exit status.
#pragma once

#include "journal/control/command_line.h"

namespace epochfs::journal {

Result<ExitStatus> journal_list(const Arguments& arguments);
Result<ExitStatus> journal_follow(const Arguments& arguments);
Result<ExitStatus> journal_show(const Arguments& arguments);
Result<ExitStatus> journal_epochs(const Arguments& arguments);
Result<ExitStatus> journal_stat(const Arguments& arguments);
Result<ExitStatus> journal_verify(const Arguments& arguments);

}  // namespace epochfs::journal
