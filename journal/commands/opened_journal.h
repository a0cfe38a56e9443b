// OpenedJournal: which journal did the user name? Also what all commands over journals have in
// common. Nothing here takes a lock or writes a byte.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "journal/base/result.h"
#include "journal/log/log_view.h"
#include "journal/log/reader.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

// A log of which all is read that can be.
struct OpenedLog {
  LogView view;
  std::map<uint64_t, Error> broken;  // segments that cannot be read at all, by their index
};

struct OpenedJournal {
  Volume volume;
  // Absolute paths that the user may have in mind for the volume's root: the one that they typed,
  // and the one that the backing directory had.
  std::vector<std::string> roots;

  // Whether a mount holds the journal at this moment. None holds one whose lock is no file.
  Result<bool> mounted() const;
  Result<Left> how_left() const;
  // Borrows the volume.
  Result<OpenedLog> open_log() const;
};

// Takes a mountpoint or a journal's folder. Errors name the remedy.
Result<OpenedJournal> open_journal(const std::string& dir_or_journal);

// The name of the bare argument that goes to open_journal(). Every command has it.
constexpr const char* kJournalArgument = "journal";

// Prints each damage to stderr as one line. Returns kCorrupt if there is any, else `other`.
ExitStatus tell_damage(const OpenedLog& log, const std::vector<Damage>& damage, ExitStatus other);

}  // namespace epochfs::journal
