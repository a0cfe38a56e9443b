// Prepare: do the received names form a tree, and which names change? This is the last check of
// a transfer before the point of no return. It derives everything that follows from the transfer,
// and refuses what could not be applied.
//
// Afterwards the staged names are complete and consistent:
//   - every name that goes is staged as gone: names that a full transfer did not list, names in
//     directories that go, names of files that turned out not to exist
//   - every name of a file that is replaced is staged, changed or not
//   - no name is staged in a directory that will not exist
//   - a directory has one name, and every directory is below the root
//   - every name leads to a file that is announced or in the index
//
// Changes only staged names, and nothing in the target directory. Running it again changes
// nothing more. One thread.
#pragma once

#include <unordered_map>
#include <unordered_set>

#include "replicator/target/apply/old_tree.h"
#include "replicator/target/apply/view.h"
#include "replicator/target/directory/outcome.h"

namespace epochfs::replicator {

class Prepare {
 public:
  // Borrows all.
  Prepare(Index& index, View& view, OldTree& tree);

  // kUnknownState: the target does not hold what the source believes. kFailed: the source
  // contradicts itself.
  Outcome<void> run();

 private:
  Result<void> void_forgotten();
  Result<void> remove_unlisted();
  Result<void> name_replaced();
  Outcome<void> settle_directories();
  Outcome<void> check_names();
  Outcome<void> check_name(const EntryName& entry, FileId child);
  Outcome<void> check_held();
  Outcome<void> check_departure(const EntryName& entry, FileId child);
  Outcome<void> check_file(FileId id);
  Outcome<void> check_directory(FileId id);

  Outcome<bool> live(FileId directory);
  Outcome<std::optional<EntryName>> name_of(FileId directory);
  Outcome<void> bury(FileId directory);

  tl::unexpected<Refusal> contradiction(std::string what) const;

  Index& index_;
  View& view_;
  OldTree& tree_;

  enum class Life : uint8_t { kAsked, kLive, kDead };
  std::unordered_map<FileId, Life> lives_;
  std::unordered_set<FileId> buried_;
  int depth_ = 0;
};

}  // namespace epochfs::replicator
