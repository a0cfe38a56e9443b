// View: what will the tree be, once what is staged has been applied? Answers from
// the index and the stage together; knows nothing of the target directory.
//
// Prepared names are assumed (prepare.h): every name that changes, and every name
// of a file that is replaced, is among the staged ones.
#pragma once

#include <optional>
#include <unordered_map>

#include "replicator/target/directory/outcome.h"
#include "replicator/target/index/index.h"

namespace epochfs::replicator {

// What becomes of a file, other than a directory, that the target has.
struct Fate {
  bool survives = false;           // this very file has a name afterwards
  std::optional<EntryName> kept;   // a name that it has now and keeps
  std::optional<EntryName> first;  // of the names that it has now, the one to take it from
  // Of the names that it, or what replaces it, is yet to get, the last one in order.
  std::optional<EntryName> last;
};

class View {
 public:
  View(Index& index, FileId root) : index_(index), root_(root) {}

  FileId root() const { return root_; }
  bool is_root(FileId id) const { return id == root_; }

  // What this transfer announced, and did not take back.
  Result<std::optional<StagedHead>> announced(FileId id);
  // Type and mode that it will have; 0: nobody knows this file.
  Result<uint32_t> mode(FileId id);
  // What the target has under this id is not what it will have.
  Result<bool> replaced(FileId id);
  // The name leads to the file that it leads to now: nothing is to be done.
  Result<bool> stays(const EntryName& entry, FileId child);
  Result<bool> has_name(FileId id);
  Result<std::optional<EntryName>> first_name(FileId id);
  Result<Fate> fate(FileId id);

 private:
  Index& index_;
  FileId root_;
  std::unordered_map<FileId, Fate> fates_;  // of files with many names
};

// One of the index's scans, with a function that returns an Outcome: the scans
// themselves hand on plain errors only.
template <typename... A, typename F>
Outcome<void> each(Index& index, Result<void> (Index::*scan)(const Index::Each<A...>&), F f) {
  std::optional<Refusal> refusal;
  auto done = (index.*scan)([&](A... a) -> Result<void> {
    Outcome<void> one = f(a...);
    if (one) return {};
    refusal = std::move(one.error());
    return tl::unexpected(refusal->error);
  });
  if (refusal) return tl::unexpected(*refusal);
  EPOCHFS_DO(done);
  return {};
}

}  // namespace epochfs::replicator
