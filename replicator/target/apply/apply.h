// Apply: how does the target directory come to hold the epoch that the commit mark names? Starts
// at the mark, no matter how much was done before:
//
//   vacate    free every name that changes (vacate.h)
//             [make it durable and mark it, if it could not be repeated after the next step]
//   place     give every file its names (place.h)
//   fill      write staged ranges into their files; set owners, modes, xattrs, times
//             [make it durable]
//   publish   change index, cursor and state hash in one transaction, which also removes stage
//             and mark
//
// Every step can be repeated, so running Apply again finishes what a crash or an error stopped.
// What remains in limbo and in the other folders of the stage is garbage then. It is removed
// once the source has its answer, at the latest before the next transfer. Needs no source. One
// thread.
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

  // Returns when the target holds the epoch durably. kFailed: run it again later; it resumes.
  // kUnknownState: somebody else removed what the epoch needs; only a full transfer helps.
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
  bool few_ = false;              // few files change, so each is synced by itself
  std::vector<UniqueFd> filled_;  // these files
};

}  // namespace epochfs::replicator
