// `epochfs journal`: which subcommand was meant?
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <map>

#include "journal/commands/commands.h"
#include "journal/commands/cut_files.h"
#include "journal/commands/subcommands.h"

namespace epochfs::journal {
namespace {

struct Subcommand {
  const char* name;
  Result<ExitStatus> (*run)(const Arguments&);
  const char* what;
};

constexpr Subcommand kSubcommands[] = {
    {"list", journal_list, "print records: what changed, when, by whom"},
    {"follow", journal_follow, "print records as they come"},
    {"show", journal_show, "print all that one record says"},
    {"epochs", journal_epochs, "print the epochs, and who has them"},
    {"stat", journal_stat, "print sizes and counts"},
    {"verify", journal_verify, "check every checksum and invariant"},
};

const char* kUsage = "usage: epochfs journal SUBCOMMAND DIR-or-journal [OPTIONS]";

int run(const Arguments& arguments) {
  if (arguments.empty()) {
    return report({std::string(kUsage) + "; see: epochfs journal --help", 0, ExitStatus::kUsage});
  }
  if (arguments[0] == "--help" || arguments[0] == "-h") {
    fmt::print(
        "{}\n\nReads the journal of a mounted directory, or of a journal's folder or a copy "
        "of it,\nand never disturbs the mount.\n\nSubcommands:\n",
        kUsage);
    for (const Subcommand& s : kSubcommands) fmt::print("  {:<8}{}\n", s.name, s.what);
    return 0;
  }
  for (const Subcommand& s : kSubcommands) {
    if (arguments[0] != s.name) continue;
    auto status = s.run(Arguments(arguments.begin() + 1, arguments.end()));
    if (status) return static_cast<int>(*status);
    // The reader of a pipe has gone: main ends the command without a word.
    const bool reader_has_gone = status.error().code == EPIPE && std::ferror(stdout);
    return reader_has_gone ? static_cast<int>(ExitStatus::kFailed) : report(status.error());
  }
  return report({fmt::format("unknown subcommand \"{}\"; {}; see: epochfs journal --help",
                             arguments[0], kUsage),
                 0, ExitStatus::kUsage});
}

}  // namespace

int journal_command(const Arguments& arguments) {
  const CutFilesReadAsZeros while_it_runs;
  return run(arguments);
}

}  // namespace epochfs::journal
