// ChangeSet: what is the net effect of a range of epochs? Records are folded one by one, in order,
// into names that now mean something else and files whose bytes or attributes changed. What
// cancels out leaves nothing behind.
//
// It holds no bytes and reads no files: extents are read when they are shipped.
//
// Memory: tests/bench/change_set measures it.
#pragma once

#include <map>
#include <string>
#include <unordered_map>

#include "journal/changes/byte_ranges.h"
#include "journal/changes/stored_handle.h"
#include "journal/log/record.h"

namespace epochfs::journal {

struct NameKey {
  FileId parent;
  std::string name;

  auto operator<=>(const NameKey&) const = default;
};

struct NameChange {
  bool before_known = true;  // false after a crash; such a name never cancels out
  FileId before;             // {0,0}: nothing
  FileId after;

  bool operator==(const NameChange&) const = default;
};

struct FileChange {
  StoredHandle handle;
  bool fresh = false;  // was created within the range: all of it is new
  bool whole = false;  // any part may have changed, although the file may be old
  // Bytes or attributes may have changed, not only a name. Used when folds are put behind each
  // other (Keep::kLinks); shipping ignores it.
  bool touched = false;
  // This is a marked directory (journal/changes/subtrees.h). Anything below it may have changed up
  // to the record at last_data. Only later changes are listed.
  bool subtree = false;
  ByteRanges data;    // dirty bytes; [x, kEndOfFile) reaches to the end, wherever that is
  Lsn last_data{};    // newest record that touched its bytes: the version of its data
  int64_t links = 0;  // names gained minus names lost; used like `touched`

  bool operator==(const FileChange&) const = default;
};
static_assert(sizeof(FileChange) == 64, "there are as many as files that changed");

// Puts the change of the following range behind `older`. The result may say too much, never too
// little.
void append(FileChange& older, const FileChange& newer);
void append(NameChange& older, const NameChange& newer);

struct ChangeSet {
  // Records are missing (kGap), so anything may have changed.
  bool gap = false;
  Lsn gap_lsn{};
  std::map<NameKey, NameChange> names;
  std::unordered_map<FileId, FileChange> files;  // attributes of each may have changed
  bool subtrees = false;  // some of `files` are marked directories (FileChange::subtree)
  uint64_t records = 0;

  bool empty() const { return !gap && names.empty() && files.empty(); }
};

class Fold {
 public:
  enum class Keep {
    kChanges,  // what shipping needs
    kLinks,    // also link counts, so that a fold put behind older ones knows which files are gone
  };
  explicit Fold(Keep keep = Keep::kChanges) : keep_(keep) {}

  void add(const Record& record);
  // One file, or one name, of the fold of the following range.
  void add(const FileId& id, const FileChange& newer);
  void add(const NameKey& key, const NameChange& newer);
  void add_gap(Lsn at);
  enum class Cancel {
    kDrop,  // what cancels out leaves nothing behind
    kKeep,  // every name that was touched stays. For a target whose copy was taken within the
            // range: it may hold any state in between
  };
  // The fold is empty afterwards.
  ChangeSet finish(Cancel cancel = Cancel::kDrop);
  // The fold as it is: nothing has cancelled out, and files that are not `touched` are included.
  // The fold is empty afterwards.
  ChangeSet take();

 private:
  void set_name(const FileId& parent, std::string_view name, const FileId& before,
                const FileId& after, bool before_known = true);
  FileChange& touch(const Record& record);
  void touch_parent(const FileId& parent, const FileHandle& handle);
  void appear(const Record& record);
  void link(const FileId& id, int by);

  Keep keep_;
  ChangeSet set_;
};

}  // namespace epochfs::journal
