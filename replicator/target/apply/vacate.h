// Vacate: the first half of a change of names. Every file that loses its name
// leaves its place: into limbo when it gets another, or takes time to remove;
// else it is removed at once. A file that is replaced by another under the same
// name stays where it is until the other takes its place in one step.
//
// Repeatable as long as nothing has been placed (place.h).
#pragma once

#include "replicator/target/apply/limbo.h"
#include "replicator/target/apply/old_tree.h"
#include "replicator/target/apply/view.h"
#include "replicator/target/directory/outcome.h"

namespace epochfs::replicator {

class Vacate {
 public:
  Vacate(Index& index, View& view, const Folders& folders, Steps& steps);

  // True: what was done could not be told apart from what is placed afterwards,
  // so that it must be durable and marked as done before anything is placed. The
  // same answer each time it is repeated. kUnknownState: what is to be moved is
  // not there.
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
