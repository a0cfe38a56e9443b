// OpenedJournal: which journal did the user name, and which options do all commands
// over journals have in common? Nothing here takes a lock or writes a byte.
#pragma once

#include <string>
#include <vector>

#include "journal/control/command_line.h"
#include "journal/log/reader.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

struct OpenedJournal {
  Volume volume;
  // Absolute paths of the volume's root that the user may mean: what they typed, and
  // what the backing directory was called.
  std::vector<std::string> roots;

  // Whether a mount holds it at this moment.
  Result<bool> mounted() const;
};

// A mountpoint, or a journal's folder. Errors name the remedy.
Result<OpenedJournal> open_journal(const std::string& dir_or_journal);

// The bare argument of every command, under the name that open_journal() is asked with.
constexpr const char* kJournalArgument = "journal";

// Tells stderr, one line each, and returns kCorrupt if there is any.
ExitStatus tell_damage(const Volume& volume, const std::vector<Damage>& damage, ExitStatus other);

}  // namespace epochfs::journal
