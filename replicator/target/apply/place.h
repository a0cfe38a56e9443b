// Place: the second half of a change of names. Every file gets the names that it
// will have, parents before children. Repeatable: what is there and right is
// left alone.
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

  // The directory where it will be, O_PATH; it is put there if it is not yet.
  // kUnknownState: it should be on the target, and is not.
  Outcome<Directory> directory(FileId id);

  // The name leads to the same object as before.
  Result<bool> unchanged(const EntryName& entry, FileId child);

 private:
  // What is to be given a name: dir/name, and the inode number it must have.
  struct Source {
    Directory holder;  // keeps dir open where it is no folder of the stage
    int dir = -1;
    std::string name;
    uint64_t inode = 0;
    bool last = false;  // it has no further names to get: rename it
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
