// CommandLine: how does every epochfs command read its options, print its help and refuse what it
// does not know? Boost's Program_options does the work, behind this header, since including it
// costs a second for each file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/result.h"

namespace epochfs {

using Arguments = std::vector<std::string>;  // without the program's and the command's names

struct CommandHelp {
  std::string usage;        // "epochfs barrier DIR"
  std::string description;  // what it does, what it prints, its exit statuses
};

// The options and bare arguments that one command takes. A name is "json" or, with a short form,
// "foreground,f". An option is given at most once, except texts().
class Options {
 public:
  Options();
  Options(Options&&) noexcept;
  Options& operator=(Options&&) noexcept;
  ~Options();

  // An option without a value.
  Options& flag(const char* name, const char* help);
  // Options with one. `value` is what --help calls it: "--label TEXT". Without a default they may
  // be absent.
  Options& text(const char* name, const char* value, const std::string& help);
  Options& text(const char* name, const char* value, const std::string& help,
                const std::string& otherwise);
  // The same, where --help shows something else than the default's value: "(=in the state)".
  Options& text(const char* name, const char* value, const std::string& help,
                const std::string& otherwise, const std::string& shown);
  Options& required_text(const char* name, const char* value, const std::string& help);
  // May be given several times.
  Options& texts(const char* name, const char* value, const std::string& help);
  // Digits only; a sign or a unit is an error.
  Options& number(const char* name, const char* value, const std::string& help);
  Options& number(const char* name, const char* value, const std::string& help, uint64_t otherwise);
  Options& decimal(const char* name, const char* value, const std::string& help);

  // Bare arguments, in order. They have no line in --help: the usage names them.
  Options& argument(const char* name);  // must be there
  Options& optional_argument(const char* name);
  Options& number_argument(const char* name);  // must be there, digits only
  Options& arguments(const char* name);  // all that remain, at least one; the last of these calls

 private:
  friend struct Parser;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What was given.
class Parsed {
 public:
  Parsed();
  Parsed(Parsed&&) noexcept;
  Parsed& operator=(Parsed&&) noexcept;
  ~Parsed();

  // --help was asked for and has been printed: the command is done, status kOk.
  bool help_shown = false;

  // Whether it was given, or has a default.
  bool has(const char* name) const;
  // Each of these aborts where the command has no such option, or where it was not given and has no
  // default.
  const std::string& text(const char* name) const;
  uint64_t number(const char* name) const;
  double decimal(const char* name) const;
  // nullopt where it was not given.
  std::optional<std::string> maybe_text(const char* name) const;
  std::optional<uint64_t> maybe_number(const char* name) const;
  // All values; empty where it was not given.
  std::vector<std::string> texts(const char* name) const;

 private:
  friend struct Parser;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Parses, or ends the command: --help prints help to stdout; an unknown option, a missing or
// surplus argument or a malformed value is an error of status kUsage that names it.
Result<Parsed> parse_command(const CommandHelp& help, const Options& options,
                             const Arguments& arguments);

// Prints "epochfs: message" to stderr and returns the exit status.
int report(const Error& error);

}  // namespace epochfs
