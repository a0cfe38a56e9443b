// Place: how does every file get the names that it will have? This is the second half of a change
// of names; the first is vacate.h. Parents come before children. Repeatable: what is right
// already stays. One thread.
#pragma once

#include "replicator/target/apply/limbo.h"
#include "replicator/target/apply/old_tree.h"
#include "replicator/target/apply/view.h"
#include "replicator/target/directory/outcome.h"

namespace epochfs::replicator {

class Place {
 public:
  Place(Index& index, View& view, const Folders& folders, Steps& steps);

  Outcome<void> run();

  // Opens a directory (O_PATH) in the place where it will be, and puts it there first if need be.
  // kUnknownState: the target should have the directory, but does not.
  Outcome<Directory> directory(FileId id);

  // Whether the name leads to the same object as before.
  Result<bool> unchanged(const EntryName& entry, FileId child);

 private:
  // The file that gets a name: it is at dir/name, and must have this inode number.
  struct Source {
    Directory holder;  // keeps dir open, unless dir is a folder of the stage
    int dir = -1;
    std::string name;
    uint64_t inode = 0;
    bool last = false;  // this is the last name that it gets: rename it
  };

  Outcome<void> place_missing();
  Outcome<void> place(const EntryName& entry, FileId id);
  Outcome<void> place_directory(int parent, const EntryName& entry, FileId id);
  Result<void> make_directory(int parent, const std::string& name);
  Outcome<bool> from_limbo(int parent, const std::string& name, FileId id);
  Outcome<Source> source_of(const EntryName& entry, FileId id);
  Outcome<void> place_file(int parent, const std::string& name, const Source& source);
  int give_name(int parent, const std::string& name, const Source& source);

  Index& index_;
  View& view_;
  const Folders& folders_;
  Steps& steps_;
  Limbo limbo_;
  DirectoryCache cache_;
};

}  // namespace epochfs::replicator
