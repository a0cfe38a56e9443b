#include "replicator/target/apply/prepare.h"

#include <fmt/format.h>

#include "journal/preimages/attributes.h"

namespace epochfs::replicator {
namespace {

constexpr int kMaxGuesses = 64;  // of a directory's name, nested

std::string named(const EntryName& entry) {
  return fmt::format("\"{}\" in {}", escape(entry.name), inode_text(entry.parent));
}

}  // namespace

Prepare::Prepare(Index& index, View& view, OldTree& tree)
    : index_(index), view_(view), tree_(tree) {}

Outcome<void> Prepare::run() {
  EPOCHFS_DO(void_forgotten());
  if (index_.meta().full) EPOCHFS_DO(remove_unlisted());
  EPOCHFS_DO(name_replaced());
  EPOCHFS_DO(settle_directories());
  EPOCHFS_DO(check_names());
  if (!index_.meta().full) EPOCHFS_DO(check_held());
  return {};
}

// If only changes of names were sent, source and target disagree about the tree. If all names were
// sent, the source contradicts itself.
tl::unexpected<Refusal> Prepare::contradiction(std::string what) const {
  auto kind = index_.meta().full ? Refusal::Kind::kFailed : Refusal::Kind::kUnknownState;
  return refuse(kind, std::move(what));
}

Result<void> Prepare::void_forgotten() {
  const uint32_t generation = index_.meta().generation;
  return index_.for_each_staged([&](FileId id, const StagedNode& node) -> Result<void> {
    if (!node.forgotten || node.generation != generation) return {};
    EPOCHFS_TRY(auto links, index_.links(id));
    for (const EntryName& entry : links) {
      EPOCHFS_TRY(auto staged, index_.staged_child(entry));
      if (!staged) EPOCHFS_DO(index_.put_staged_name(entry, {}));
    }
    EPOCHFS_TRY(auto staged_links, index_.staged_links(id));
    for (const EntryName& entry : staged_links) EPOCHFS_DO(index_.put_staged_name(entry, {}));
    return index_.for_each_staged_child(
        id, [&](const EntryName& entry, FileId) { return index_.put_staged_name(entry, {}); });
  });
}

Result<void> Prepare::remove_unlisted() {
  return index_.for_each_listed([&](FileId directory) {
    return index_.for_each_child(directory, [&](const EntryName& entry, FileId) -> Result<void> {
      EPOCHFS_TRY(auto staged, index_.staged_child(entry));
      return staged ? Result<void>{} : index_.put_staged_name(entry, {});
    });
  });
}

// A name leads to a file of the source, not to an object on the target. So the names of a
// replaced file stay, and lead to the object that takes the old one's place.
Result<void> Prepare::name_replaced() {
  return index_.for_each_staged([&](FileId id, const StagedNode& node) -> Result<void> {
    EPOCHFS_TRY(auto old, index_.node(id));
    if (!old || node.forgotten || !index_.is_current(node)) return {};
    EPOCHFS_TRY(bool replaced, view_.replaced(id));
    if (!replaced) return {};
    EPOCHFS_TRY(auto links, index_.links(id));
    for (const EntryName& entry : links) {
      EPOCHFS_TRY(auto staged, index_.staged_child(entry));
      EPOCHFS_TRY(uint32_t parent, view_.mode(entry.parent));
      if (!staged)
        EPOCHFS_DO(index_.put_staged_name(entry, journal::is_directory(parent) ? id : FileId{}));
    }
    if (!journal::is_directory(old->mode)) return {};
    return index_.for_each_child(id, [&](const EntryName& entry, FileId) -> Result<void> {
      EPOCHFS_TRY(auto staged, index_.staged_child(entry));
      return staged ? Result<void>{} : index_.put_staged_name(entry, {});
    });
  });
}

// A directory has one name: with a new name it loses the old one.
Outcome<void> Prepare::settle_directories() {
  return each(index_, &Index::for_each_staged_name,
              [&](const EntryName& entry, FileId child) -> Outcome<void> {
                if (!child) return {};
                EPOCHFS_TRY(uint32_t mode, view_.mode(child));
                if (!journal::is_directory(mode)) return {};
                if (view_.is_root(child))
                  return contradiction("name " + named(entry) + ": it is the root");
                EPOCHFS_TRY(auto links, index_.links(child));
                for (const EntryName& old : links) {
                  EPOCHFS_TRY(auto staged, index_.staged_child(old));
                  if (!staged) EPOCHFS_DO(index_.put_staged_name(old, {}));
                }
                return {};
              });
}

// ---- which directories are below the root ----

// The name that a directory will have. Of several staged names it is the reachable one: the
// others are in directories that were removed meanwhile.
Outcome<std::optional<EntryName>> Prepare::name_of(FileId directory) {
  EPOCHFS_TRY(auto staged, index_.staged_links(directory));
  if (staged.size() <= 1) {
    EPOCHFS_TRY(auto name, view_.first_name(directory));
    return name;
  }
  if (depth_ >= kMaxGuesses)
    return contradiction("find a directory's name: too many to choose from");
  ++depth_;
  std::optional<EntryName> found;
  for (EntryName& entry : staged) {
    EPOCHFS_TRY(bool reachable, live(entry.parent));
    if (!reachable) continue;
    if (found) {
      return contradiction(fmt::format("name directory {}: it has two names, {} and {}",
                                       inode_text(directory), named(*found), named(entry)));
    }
    found = std::move(entry);
  }
  --depth_;
  return found;
}

Outcome<bool> Prepare::live(FileId directory) {
  std::vector<FileId> trail;
  bool reached = false;
  for (FileId at = directory;;) {
    if (view_.is_root(at)) {
      reached = true;
      break;
    }
    auto [life, unknown] = lives_.try_emplace(at, Life::kAsked);
    if (!unknown && life->second == Life::kAsked) {
      return contradiction("find the root above " + inode_text(at) +
                           ": directories lie in a circle");
    }
    if (!unknown) {
      reached = life->second == Life::kLive;
      break;
    }
    trail.push_back(at);
    EPOCHFS_TRY(uint32_t mode, view_.mode(at));
    if (!journal::is_directory(mode)) break;
    EPOCHFS_TRY(auto name, name_of(at));
    if (!name) break;
    at = name->parent;
  }
  for (FileId id : trail) lives_[id] = reached ? Life::kLive : Life::kDead;
  return reached;
}

// A directory goes, with every name below it.
Outcome<void> Prepare::bury(FileId directory) {
  std::vector<FileId> graves{directory};
  while (!graves.empty()) {
    FileId at = graves.back();
    graves.pop_back();
    if (!buried_.insert(at).second) continue;
    std::vector<FileId> below;
    EPOCHFS_DO(index_.for_each_child(at, [&](const EntryName& entry, FileId child) -> Result<void> {
      EPOCHFS_TRY(auto staged, index_.staged_child(entry));
      if (!staged) EPOCHFS_DO(index_.put_staged_name(entry, {}));
      EPOCHFS_TRY(auto node, index_.node(child));
      if (node && journal::is_directory(node->mode)) below.push_back(child);
      return {};
    }));
    for (FileId child : below) {
      EPOCHFS_TRY(bool reachable, live(child));
      if (!reachable) graves.push_back(child);
    }
  }
  return {};
}

// ---- checks ----

Outcome<void> Prepare::check_names() {
  return each(index_, &Index::for_each_staged_name,
              [&](const EntryName& entry, FileId child) -> Outcome<void> {
                EPOCHFS_TRY(FileId old, index_.child(entry));
                if (old && old != child) {
                  EPOCHFS_TRY(auto node, index_.node(old));
                  if (node && journal::is_directory(node->mode)) {
                    EPOCHFS_TRY(bool reachable, live(old));
                    if (!reachable) EPOCHFS_DO(bury(old));
                  }
                }
                return child ? check_name(entry, child) : Outcome<void>{};
              });
}

Outcome<void> Prepare::check_name(const EntryName& entry, FileId child) {
  EPOCHFS_TRY(uint32_t parent_mode, view_.mode(entry.parent));
  if (!parent_mode)
    return contradiction("take name " + named(entry) + ": nobody knows the directory");
  if (!journal::is_directory(parent_mode)) {
    return contradiction("take name " + named(entry) + ": that is no directory");
  }
  EPOCHFS_TRY(bool reachable, live(entry.parent));
  if (!reachable) {
    EPOCHFS_DO(index_.put_staged_name(entry, {}));
    return {};
  }
  EPOCHFS_TRY(uint32_t mode, view_.mode(child));
  if (!mode) {
    return contradiction(
        fmt::format("take name {}: nobody knows its file, {}", named(entry), inode_text(child)));
  }
  // live() also refuses a directory that lies in a circle or has two names.
  Outcome<bool> found = journal::is_directory(mode) ? live(child) : true;
  if (!found) return tl::unexpected(found.error());
  return {};
}

// What this transfer builds on must be as the target made it. Looks only at files that the
// transfer uses; it does not compare the whole tree. A full transfer was checked when it was
// received, and makes again what is missing.
Outcome<void> Prepare::check_held() {
  EPOCHFS_DO(each(index_, &Index::for_each_staged_name,
                  [&](const EntryName& entry, FileId child) -> Outcome<void> {
                    EPOCHFS_TRY(FileId old, index_.child(entry));
                    if (old && old != child) EPOCHFS_DO(check_departure(entry, old));
                    return child ? check_directory(entry.parent) : Outcome<void>{};
                  }));
  return each(index_, &Index::for_each_staged, [&](FileId id, StagedNode& node) -> Outcome<void> {
    const bool ours = index_.is_current(node) && !node.forgotten;
    if (!ours || node.incoming) return {};
    return journal::is_directory(node.attributes.mode) ? check_directory(id) : check_file(id);
  });
}

// The file must still be where it leaves from, since it gets another name.
Outcome<void> Prepare::check_departure(const EntryName& entry, FileId child) {
  EPOCHFS_TRY(auto node, index_.node(child));
  EPOCHFS_TRY(bool replaced, view_.replaced(child));
  EPOCHFS_TRY(bool has_name, view_.has_name(child));
  if (!node || replaced || !has_name) return {};
  EPOCHFS_TRY(auto s, tree_.stat(entry, view_.root()));
  if (s && s->st_ino == node->target_inode) return {};
  return unknown_state(fmt::format("move {}: another hand has {} it on the target", named(entry),
                                   s ? "replaced" : "removed"));
}

Outcome<void> Prepare::check_file(FileId id) {
  EPOCHFS_TRY(auto node, index_.node(id));
  EPOCHFS_TRY(bool has_name, view_.has_name(id));
  if (!node || !has_name) return {};
  EPOCHFS_TRY(bool intact, tree_.is_intact(id, *node, view_.root()));
  if (intact) return {};
  return unknown_state("change " + inode_text(id) + ": another hand has changed it on the target");
}

// A directory that the target has and keeps must be where the index says.
Outcome<void> Prepare::check_directory(FileId id) {
  if (view_.is_root(id)) return {};
  EPOCHFS_TRY(auto node, index_.node(id));
  EPOCHFS_TRY(bool has_name, view_.has_name(id));
  if (!node || !journal::is_directory(node->mode) || !has_name) return {};
  EPOCHFS_TRY(Directory directory, tree_.directory(id, view_.root()));
  if (directory) return {};
  return unknown_state("find directory " + inode_text(id) +
                       ": another hand has moved it on the target");
}

}  // namespace epochfs::replicator
