// CommandLine: how does every epochfs command read its options, print its help
// and refuse what it does not know? A thin layer over Boost.Program_options.
#pragma once

#include <boost/program_options.hpp>
#include <string>
#include <vector>

#include "journal/base/result.h"

namespace epochfs {

using Arguments = std::vector<std::string>;  // without the program's and the command's names

struct CommandHelp {
  std::string usage;        // "epochfs barrier DIR"
  std::string description;  // what it does, what it prints, its exit statuses
};

// Parses, or ends the command: --help prints help to stdout and exits 0; an
// unknown option, a missing or surplus argument is an error of status kUsage
// that names it. positional: names of options that take bare arguments, in
// order; the last one takes all that remain when `last_takes_all`.
struct Parsed {
  boost::program_options::variables_map values;
  bool help_shown = false;  // then the command is done, status kOk
};
Result<Parsed> parse_command(const CommandHelp& help,
                             const boost::program_options::options_description& options,
                             const std::vector<std::string>& positional, const Arguments& arguments,
                             bool last_takes_all = false);

// An option's number: digits only. Boost's own reading of an unsigned number takes
// -1 for the largest one.
struct Number {
  uint64_t value = 0;
};
void validate(boost::any& out, const std::vector<std::string>& texts, Number*, int);

// Prints "epochfs: message" to stderr and returns the exit status.
int report(const Error& error);

}  // namespace epochfs
