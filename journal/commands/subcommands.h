// Subcommands: what are the subcommands of `epochfs journal`? Each is in the file of its name. It
// gets the arguments behind the subcommand, and returns the exit status.
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
