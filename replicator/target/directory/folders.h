// Folders: where are the target directory and its stage, and are they still the same? The stage
// lies beside the target directory on the same file system, so that a rename moves a file from
// one to the other:
//
//   <parent>/<target directory>
//   <parent>/.epochfs-<relationship id>/    mode 0700
//       lock       held by the session that works here
//       index/     LMDB (index.h)
//       incoming/  new files, written once
//       extents/   changed bytes of existing files, at their offsets
//       limbo/     files that have left their place, until they are placed anew or removed
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
  std::string path;  // its path, for messages
  FileId root_id;    // its st_ino and birth time

  UniqueFd stage, lock, index, incoming, extents, limbo;
  bool stage_is_new = false;  // open() made it

  // Opens all folders, and makes those of the stage that are missing. `established`: they
  // existed before, so a missing one means a lost target. Creates nothing in the target
  // directory. Refuses a directory that is not on its parent's file system, and one that another
  // relationship uses. kBusy: another session of this relationship holds the lock.
  static Outcome<Folders> open(Storage& storage, const std::string& directory,
                               const std::string& relationship, bool established);

  // Checks that the target directory is still where it was. kTargetLost: it is not.
  Outcome<void> check_root() const;
  Outcome<bool> root_is_empty() const;
};

// Removes the stage folder of a relationship that has ended. Does not touch the target
// directory. Succeeds if there is no such folder. kBusy: a session uses it.
Outcome<void> remove_stage_folder(const std::string& directory, const std::string& relationship);

}  // namespace epochfs::replicator
