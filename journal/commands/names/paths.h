// Paths: where in the volume was this file when that record was made? Puts together the
// names that the journal tells (name_history.h) and those of the backing directory now
// (backing_names.h), one level at a time, each as it was at that moment.
//
// What neither knows stays as "#INODE": `#812/report.txt` is the file report.txt in a
// directory of that inode whose own name is not known.
//
// A path is put together once and then holds from one rename to the next, so a million
// writes to one file cost one path. One thread.
#pragma once

#include <vector>

#include "journal/commands/names/backing_names.h"
#include "journal/commands/names/name_history.h"
#include "journal/commands/names/path_globs.h"

namespace epochfs::journal {

struct Path {
  std::string text;     // relative to the volume's root; that itself is ""
  bool known = true;    // false: it begins with #INODE
  bool gone = false;    // the file had no name any more: its last one
  bool matched = true;  // by the globs

  // Raw bytes, but for a known path that could be taken for an unknown one: "./#1".
  std::string shown() const;
};

class PathResolver {
 public:
  struct Options {
    bool names = true;  // false: reads nothing, and knows no name but those in the record
    PathGlobs globs;
  };
  // Borrows the view.
  PathResolver(const LogView& view, Options options);

  // Of the record's own file, or the name that it speaks of: created, removed, renamed.
  Path path_of(const Record& record);
  // Of a rename: where it led.
  Path new_path_of(const Record& record);
  // Of records that do not speak of names: only whether they match, without operands.
  // nullopt: that takes path_of().
  std::optional<bool> matched(const RecordHead& head) const;

  // For who reads on and on: takes in the names that came since, as NameHistory does.
  void catch_up(Lsn from) {
    if (history_.catch_up(from)) forget();
  }
  bool covers(Lsn at) const { return history_.covers(at); }

 private:
  // A path, and for how long it holds.
  struct Known {
    Path path;
    Lsn from{}, until{UINT64_MAX};  // [from, until)
  };
  void forget();
  static constexpr int kMaxDepth = 2048;

  // What matched() looks into, of files whose path held all the time: a hash of the file
  // whose lowest bit is the verdict. Eight bytes, for there may be a million files, and
  // what counts is how much of it the processor's cache holds. That two files share the
  // 63 bits is less likely than that a checksum hides damage.
  static constexpr size_t kVerdicts = 1 << 20, kPlaces = 4;
  size_t place_of(uint64_t key) const { return (key >> 40) % (kVerdicts / kPlaces) * kPlaces; }
  void note_verdict(const FileId& file, const Known& known);

  const Known& of_file(const FileId& file, const FileHandle& handle, Lsn at, int depth);
  Known find(const FileId& file, const FileHandle& handle, Lsn at, int depth);
  Known below(const FileId& parent, const FileHandle& handle, std::string_view name, Lsn at,
              int depth);
  Known placeholder(const FileId& file) const;
  Path finished(Known known) const;

  NameHistory history_;
  Options options_;
  FileId root_;
  BackingNames backing_;
  bool backing_opened_ = false;
  const Volume& volume_;
  std::unordered_map<FileId, Known> known_;
  std::vector<uint64_t> verdicts_;  // empty without globs
};

// A record, and where what it speaks of was.
struct ShownRecord {
  const Record& record;
  Path path;
  Path new_path;  // of a rename
};
ShownRecord show(const Record& record, PathResolver& paths);

// Whether the record's name operands are names of files, so that parent/name is a path.
inline bool has_names(const Record& record) { return bool(record.parent); }

}  // namespace epochfs::journal
