// Apply: how does the target directory come to hold the epoch that the commit
// mark names? Runs from the mark on, whatever was done already:
//
//   vacate    names that change become free (vacate.h)
//             [durable, and marked, where it could not be repeated from here on]
//   place     every file gets its names (place.h)
//   fill      staged ranges go into their files; owners, modes, xattrs, times
//             [durable]
//   publish   index, cursor and state hash change in one transaction, in which
//             stage and mark go
//
// Every step can be repeated, so that whatever stopped it, running it again
// finishes it. What is left in limbo and in the stage's other folders is of no use
// afterwards; it is removed when nobody waits any more, and in any case before the
// next transfer. Needs no source. One thread.
#pragma once

#include "journal/base/storage.h"
#include "replicator/target/apply/place.h"
#include "replicator/target/apply/view.h"
#include "replicator/target/directory/folders.h"
#include "replicator/target/directory/outcome.h"
#include "replicator/target/index/index.h"

namespace epochfs::replicator {

class Apply {
 public:
  // Borrows all.
  Apply(Storage& storage, Index& index, const Folders& folders, Steps& steps);

  // Returns when the target holds the epoch, durably. kFailed: will go on from
  // here later. kUnknownState: another hand has taken away what is needed; only a
  // full transfer helps.
  Outcome<void> run();

 private:
  Outcome<void> vacate();
  Outcome<void> fill();
  Outcome<void> fill_file(FileId id, StagedNode& node);
  Outcome<UniqueFd> open_node(FileId id, const StagedNode& node);
  Outcome<void> restore_times();
  Result<void> restore_time(FileId directory);
  Result<void> sync();
  Result<void> publish();
  Result<void> publish_names();
  Result<void> publish_node(FileId id, const StagedNode& node);

  Storage& storage_;
  Index& index_;
  const Folders& folders_;
  Steps& steps_;
  View view_;
  Place place_;
  bool few_ = false;              // so few files change that each is synced by itself
  std::vector<UniqueFd> filled_;  // these files
};

}  // namespace epochfs::replicator
