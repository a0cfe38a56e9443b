// Paths: where in the volume was this file when that record was made? A path is built level by
// level. Each level is the name at that moment: from the journal (name_history.h), or else from the
// backing directory as it is now (backing_names.h).
//
// A directory that neither knows is shown as "#INODE": `#812/report.txt` is the file report.txt in
// a directory with that inode and an unknown name.
//
// A path is built once and holds until the next rename, so a million writes to one file cost one
// path. One thread.
#pragma once

#include <vector>

#include "journal/commands/names/backing_names.h"
#include "journal/commands/names/name_history.h"
#include "journal/commands/names/path_globs.h"

namespace epochfs::journal {

struct Path {
  std::string text;     // relative to the volume's root; "" is the root itself
  bool known = true;    // false: it begins with #INODE
  bool gone = false;    // the file had no name any more; this is its last one
  bool matched = true;  // whether the globs match it

  // Raw bytes. A known path that looks like an unknown one gets "./" before it: "./#1".
  std::string shown() const;
};

class PathResolver {
 public:
  struct Options {
    bool names = true;  // false: reads nothing, and knows only the names in the record itself
    PathGlobs globs;
  };
  // Borrows the view.
  PathResolver(const LogView& view, Options options);

  // The path that the record is about: the name that it creates, removes or renames, else the path
  // of its file.
  Path path_of(const Record& record);
  // For a rename: the new path.
  Path new_path_of(const Record& record);
  // For records without names: whether the globs match, without decoding operands. nullopt: only
  // path_of() can tell.
  std::optional<bool> matched(const RecordHead& head) const;

  // For a reader that follows the log: takes in the names that came since, as NameHistory does.
  void catch_up(Lsn from) {
    if (history_.catch_up(from)) forget();
  }
  bool covers(Lsn at) const { return history_.covers(at); }

 private:
  // A path, and the records for which it holds.
  struct Known {
    Path path;
    Lsn from{}, until{UINT64_MAX};  // [from, until)
  };
  void forget();
  static constexpr int kMaxDepth = 2048;

  // What matched() looks up, for files that had one path all the time: a hash of the file, whose
  // lowest bit is the verdict. There may be a million files, and speed depends on how many fit into
  // the processor's cache, so an entry is eight bytes. Two files with the same 63 bits are less
  // likely than damage that a checksum misses.
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

// A record with its path, and for a rename its new path.
struct ShownRecord {
  const Record& record;
  Path path;
  Path new_path;  // of a rename
};
ShownRecord show(const Record& record, PathResolver& paths);

// Whether the record names a file, so that parent/name is a path. (An xattr's record has a name,
// too.)
inline bool has_names(const Record& record) { return bool(record.parent); }

}  // namespace epochfs::journal
