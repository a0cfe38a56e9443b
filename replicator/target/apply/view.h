// View: what will the tree be once the stage has been applied? Answers from the index, held and
// staged entries together. Never looks into the target directory.
//
// Assumes prepared names (prepare.h): every name that changes is staged, and so is every name of a
// file that is replaced. One thread.
#pragma once

#include <optional>
#include <unordered_map>

#include "replicator/target/directory/outcome.h"
#include "replicator/target/index/index.h"

namespace epochfs::replicator {

// What becomes of a file that the target has. Not for directories.
struct Fate {
  bool survives = false;           // this very object has a name afterwards
  std::optional<EntryName> kept;   // a name that it has now and keeps
  std::optional<EntryName> first;  // of the names that it has now, the one to take it from
  // The last, in order, of the names that it or its replacement gets.
  std::optional<EntryName> last;
};

class View {
 public:
  View(Index& index, FileId root) : index_(index), root_(root) {}

  FileId root() const { return root_; }
  bool is_root(FileId id) const { return id == root_; }

  // What this transfer announced of the file and did not take back.
  Result<std::optional<StagedHead>> announced(FileId id);
  // Type and mode that the file will have. 0: the file is unknown.
  Result<uint32_t> mode(FileId id);
  // Whether another object takes the place of the one that the target has under this id.
  Result<bool> replaced(FileId id);
  // Whether the name, which leads to child now, still leads to the same object afterwards.
  Result<bool> stays(const EntryName& entry, FileId child);
  Result<bool> has_name(FileId id);
  Result<std::optional<EntryName>> first_name(FileId id);
  Result<Fate> fate(FileId id);

 private:
  Index& index_;
  FileId root_;
  std::unordered_map<FileId, Fate> fates_;  // of files with many names
};

// Runs one of the index's scans with a function that returns an Outcome. The scans themselves
// return plain errors only.
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
