// Folders: where do the target directory and its stage lie, and are they what
// they were? The stage lies beside the target directory, on the same file
// system, so that a rename moves a file from one to the other:
//
//   <parent>/<target directory>
//   <parent>/.epochfs-<relationship id>/    mode 0700
//       lock       held by the one session that works here
//       index/     LMDB (index.h)
//       incoming/  new files, written once
//       extents/   changed bytes of existing files, at their offsets
//       limbo/     what has left its place and has no other yet, or is to go
#pragma once

#include <string>

#include "journal/base/storage.h"
#include "journal/base/unix.h"
#include "replicator/target/directory/outcome.h"

namespace epochfs::replicator {

struct Folders {
  UniqueFd parent;
  UniqueFd root;     // the target directory
  std::string name;  // its name in parent
  std::string path;  // its path, for people
  FileId root_id;    // st_ino and birth

  UniqueFd stage, lock, index, incoming, extents, limbo;
  bool stage_is_new = false;  // open() made it

  // Opens all, and makes the stage's where they are missing. `established`: they
  // were there once, and a missing one is a lost target. Creates nothing in the
  // target directory. Refuses a directory that shares no file system with its
  // parent, or that another relationship uses; kBusy when another session of this
  // one holds the lock.
  static Outcome<Folders> open(Storage& storage, const std::string& directory,
                               const std::string& relationship, bool established);

  // The target directory is still where it was. Else: kTargetLost.
  Outcome<void> check_root() const;
  Outcome<bool> root_is_empty() const;
};

// Removes the stage folder of a relationship that has ended; the target
// directory stays as it is. No folder: nothing to do. kBusy: a session has it.
Outcome<void> remove_stage_folder(const std::string& directory, const std::string& relationship);

}  // namespace epochfs::replicator
