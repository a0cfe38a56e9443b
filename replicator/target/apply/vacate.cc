#include "replicator/target/apply/vacate.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "journal/base/directory.h"
#include "journal/preimages/attributes.h"

namespace epochfs::replicator {
namespace {

// Removing a larger file takes longer than a rename, so it waits until the epoch is applied.
constexpr uint64_t kLargeFileBytes = 4 << 20;

}  // namespace

Vacate::Vacate(Index& index, View& view, const Folders& folders, Steps& steps)
    : index_(index),
      view_(view),
      folders_(folders),
      steps_(steps),
      limbo_(folders.limbo.get()),
      tree_(index, folders, [this](FileId id) { return may_have_moved(id); }) {}

Outcome<bool> Vacate::run() {
  // A full transfer reconciles: the directory may hold files that the index does not know.
  if (index_.meta().full && !index_.meta().pristine) {
    must_mark_ = true;
    EPOCHFS_DO(index_.for_each_listed([&](FileId directory) { return purge(directory); }));
  }
  EPOCHFS_DO(each(index_, &Index::for_each_staged_name,
                  [&](const EntryName& entry, FileId now) { return depart(entry, now); }));
  return must_mark_;
}

Outcome<void> Vacate::depart(const EntryName& entry, FileId now) {
  EPOCHFS_TRY(FileId old, index_.child(entry));
  if (!old) return {};
  EPOCHFS_TRY(bool stays, view_.stays(entry, old));
  if (stays) return {};
  EPOCHFS_TRY(auto node, index_.node(old));
  if (!node) return unknown_state("move " + inode_text(old) + ": it is not in the index");
  if (journal::is_directory(node->mode)) return depart_directory(entry, old, bool(now));
  return depart_file(entry, old, *node, now);
}

// taken: something else gets the name.
Outcome<void> Vacate::depart_directory(const EntryName& entry, FileId id, bool taken) {
  EPOCHFS_TRY(bool replaced, view_.replaced(id));
  EPOCHFS_TRY(bool has_name, view_.has_name(id));
  const bool survives = has_name && !replaced;
  EPOCHFS_TRY(bool parent_remains, remains(entry.parent));
  if (!survives && !parent_remains) return {};  // goes with it
  must_mark_ |= survives || taken;
  EPOCHFS_DO(steps_.at("vacate: directory"));
  EPOCHFS_TRY(Directory parent, tree_.directory(entry.parent, view_.root()));
  if (!parent) return {};
  EPOCHFS_TRY(bool there, limbo_.take(parent->get(), entry.name, id));
  if (there || !survives || index_.meta().full) return {};
  EPOCHFS_TRY(bool holds, limbo_.holds(id));
  if (holds) return {};
  return unknown_state(
      fmt::format("move directory \"{}\": it is not on the target", escape(entry.name)));
}

Outcome<void> Vacate::depart_file(const EntryName& entry, FileId id, const IndexedNode& node,
                                  FileId now) {
  EPOCHFS_TRY(Fate fate, view_.fate(id));
  if (fate.survives && !fate.kept && fate.first == entry) return keep_in_limbo(entry, id, node);
  EPOCHFS_TRY(bool parent_remains, remains(entry.parent));
  // It goes with its directory. A file that survives loses the name here, or it would keep one
  // link too many.
  if (!parent_remains && !fate.survives) return {};
  if (now) {
    EPOCHFS_TRY(uint32_t mode, view_.mode(now));
    if (!journal::is_directory(mode)) return {};  // it is replaced in one step
  }
  const bool large =
      node.size > kLargeFileBytes && journal::is_regular(node.mode) && !fate.survives;
  EPOCHFS_DO(remove_file(entry, large, bool(now)));
  return {};
}

Outcome<void> Vacate::keep_in_limbo(const EntryName& entry, FileId id, const IndexedNode& node) {
  must_mark_ = true;
  EPOCHFS_DO(steps_.at("vacate: file"));
  EPOCHFS_TRY(bool holds, limbo_.holds(id));
  if (holds) return {};
  EPOCHFS_TRY(Directory parent, tree_.directory(entry.parent, view_.root()));
  struct stat s;
  const bool there = parent && stat_beneath(parent->get(), entry.name.c_str(), s) == 0;
  if (!there || s.st_ino != node.target_inode) {
    return unknown_state(fmt::format("move file \"{}\": another hand has {} it on the target",
                                     escape(entry.name), there ? "replaced" : "removed"));
  }
  EPOCHFS_TRY([[maybe_unused]] bool taken, limbo_.take(parent->get(), entry.name, id));
  return {};
}

Result<void> Vacate::remove_file(const EntryName& entry, bool large, bool taken) {
  EPOCHFS_DO(steps_.at("vacate: remove"));
  EPOCHFS_TRY(Directory parent, tree_.directory(entry.parent, view_.root()));
  if (!parent) return {};
  // If a directory takes the name, it may be there already; only unlink can tell.
  if (large && !taken) return limbo_.displace(parent->get(), entry.name);
  if (::unlinkat(parent->get(), entry.name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno == EISDIR && taken) return {};
  if (errno == EISDIR) return limbo_.displace(parent->get(), entry.name);
  return fail_errno("remove " + escape(entry.name));
}

// Moves away what is in the directory but not in the index.
Result<void> Vacate::purge(FileId directory) {
  EPOCHFS_TRY(bool stays, remains(directory));
  EPOCHFS_TRY(auto node, index_.node(directory));
  if (!stays || (!node && !view_.is_root(directory))) return {};
  EPOCHFS_TRY(Directory dir, tree_.directory(directory, view_.root()));
  if (!dir) return {};
  return for_each_entry(dir->get(), "the target", [&](const char* name) -> Result<void> {
    EPOCHFS_TRY(FileId known, index_.child({directory, name}));
    if (known) return {};
    EPOCHFS_DO(steps_.at("vacate: foreign"));
    return limbo_.displace(dir->get(), name);
  });
}

// Whether the directory will exist afterwards, here or elsewhere.
Result<bool> Vacate::remains(FileId directory) {
  if (view_.is_root(directory)) return true;
  EPOCHFS_TRY(uint32_t mode, view_.mode(directory));
  if (!journal::is_directory(mode)) return false;
  return view_.has_name(directory);
}

Result<bool> Vacate::may_have_moved(FileId directory) {
  EPOCHFS_TRY(auto links, index_.links(directory));
  if (links.empty()) return false;
  EPOCHFS_TRY(bool stays, view_.stays(links.front(), directory));
  return !stays;
}

}  // namespace epochfs::replicator
