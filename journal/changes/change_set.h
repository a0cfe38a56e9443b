// ChangeSet: what is the net effect of a range of epochs? Folds records, one by
// one and in order, into names that now mean something else, and files whose
// bytes or attributes changed. What cancels out leaves nothing behind.
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
  bool before_known = true;  // false after a crash: then nothing cancels
  FileId before;             // {0,0}: nothing
  FileId after;

  bool operator==(const NameChange&) const = default;
};

struct FileChange {
  StoredHandle handle;
  bool fresh = false;  // came to be within the range: all of it is new
  bool whole = false;  // not to be trusted in any part, although it may be old
  // For a fold that others are put behind (Keep::kLinks); of no meaning to who ships.
  bool touched = false;  // bytes or attributes may have changed, not only a name
  // Of a directory: anything below it may have changed, up to the record at last_data, and
  // only what came later is told (journal/changes/subtrees.h).
  bool subtree = false;
  ByteRanges data;    // dirty bytes; [x, kEndOfFile) reaches to wherever it ends
  Lsn last_data{};    // newest record that touched its bytes: the version of its data
  int64_t links = 0;  // as `touched`: names that it got, less those that it lost

  bool operator==(const FileChange&) const = default;
};
static_assert(sizeof(FileChange) == 64, "there are as many as files that changed");

// What `newer`, of the range that follows, makes of `older`. Too much at most.
void append(FileChange& older, const FileChange& newer);
void append(NameChange& older, const NameChange& newer);

struct ChangeSet {
  // Everything counts as changed, because records are missing (kGap).
  bool gap = false;
  Lsn gap_lsn{};
  std::map<NameKey, NameChange> names;
  std::unordered_map<FileId, FileChange> files;  // present: attributes may have changed
  bool subtrees = false;  // some of the files stand for all that is below them
  uint64_t records = 0;

  bool empty() const { return !gap && names.empty() && files.empty(); }
};

class Fold {
 public:
  enum class Keep {
    kChanges,  // what shipping needs
    kLinks,    // and what tells, once older folds are put before it, which files are gone
  };
  explicit Fold(Keep keep = Keep::kChanges) : keep_(keep) {}

  void add(const Record& record);
  // What the fold of the range that follows says of one file, or of one name.
  void add(const FileId& id, const FileChange& newer);
  void add(const NameKey& key, const NameChange& newer);
  void add_gap(Lsn at);
  enum class Cancel {
    kDrop,  // what cancels out leaves nothing behind
    kKeep,  // every name that was touched stays: for a target whose copy was taken
            // somewhere within the range, and may hold any state in between
  };
  // The fold is empty afterwards.
  ChangeSet finish(Cancel cancel = Cancel::kDrop);
  // As it is: nothing has cancelled out, and files are there that are not `touched`.
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
