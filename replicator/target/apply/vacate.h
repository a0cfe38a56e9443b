// Vacate: how do names that change become free? This is the first half of a change of names; the
// second is place.h. A file that loses its name moves into limbo if it gets another name, or if
// removing it takes long. Otherwise it is removed at once. A file that is replaced under the same
// name stays, until the new file takes its place in one step.
//
// Repeatable as long as nothing has been placed. One thread.
#pragma once

#include "replicator/target/apply/limbo.h"
#include "replicator/target/apply/old_tree.h"
#include "replicator/target/apply/view.h"
#include "replicator/target/directory/outcome.h"

namespace epochfs::replicator {

class Vacate {
 public:
  Vacate(Index& index, View& view, const Folders& folders, Steps& steps);

  // True: a repetition could not tell the result from files placed later. So it must be made
  // durable and marked as done before anything is placed. A repetition returns the same.
  // kUnknownState: a file that should be moved is not there.
  Outcome<bool> run();

 private:
  Outcome<void> depart(const EntryName& entry, FileId now);
  Outcome<void> depart_directory(const EntryName& entry, FileId id, bool taken);
  Outcome<void> depart_file(const EntryName& entry, FileId id, const IndexedNode& node, FileId now);
  Outcome<void> keep_in_limbo(const EntryName& entry, FileId id, const IndexedNode& node);
  Result<void> remove_file(const EntryName& entry, bool large, bool taken);
  Result<void> purge(FileId directory);
  Result<bool> remains(FileId directory);
  Result<bool> may_have_moved(FileId directory);

  Index& index_;
  View& view_;
  const Folders& folders_;
  Steps& steps_;
  Limbo limbo_;
  OldTree tree_;
  bool must_mark_ = false;
};

}  // namespace epochfs::replicator
