// OpenedJournal: which journal did the user name, and which options do all commands
// over journals have in common? Nothing here takes a lock or writes a byte.
#pragma once

#include "journal/commands/query/filter.h"

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
void add_journal_argument(boost::program_options::options_description& options);

// Tells stderr, one line each, and returns kCorrupt if there is any.
ExitStatus tell_damage(const Volume& volume, const std::vector<Damage>& damage, ExitStatus other);

// What a command prints, gathered: a system call for many lines.
class Output {
 public:
  ~Output() { flush(); }
  std::string& text() { return text_; }
  // After each line.
  void line_done() {
    if (text_.size() >= kMaxGathered) flush();
  }
  // Returns when all is with the kernel. False: nobody reads it any more, or no room.
  bool flush();

 private:
  static constexpr size_t kMaxGathered = 64 << 10;
  std::string text_;
};

}  // namespace epochfs::journal
