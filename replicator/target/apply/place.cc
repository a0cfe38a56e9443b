#include "replicator/target/apply/place.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "journal/preimages/attributes.h"

namespace epochfs::replicator {
namespace {

bool is_in_the_way(int code) {
  return code == EEXIST || code == ENOTEMPTY || code == ENOTDIR || code == EISDIR;
}

bool is_directory_there(int dir, const std::string& name) {
  struct stat s;
  return stat_beneath(dir, name.c_str(), s) == 0 && journal::is_directory(s.st_mode);
}

bool is_file_there(int dir, const std::string& name, uint64_t inode) {
  struct stat s;
  return stat_beneath(dir, name.c_str(), s) == 0 && s.st_ino == inode;
}

}  // namespace

Place::Place(Index& index, View& view, const Folders& folders, Steps& steps)
    : index_(index),
      view_(view),
      folders_(folders),
      steps_(steps),
      limbo_(folders.limbo.get()),
      cache_(kCachedDirectories) {}

Outcome<void> Place::run() {
  EPOCHFS_DO(each(index_, &Index::for_each_staged_name,
                  [&](const EntryName& entry, FileId id) -> Outcome<void> {
                    if (!id) return {};
                    EPOCHFS_TRY(bool right, unchanged(entry, id));
                    return right ? Outcome<void>{} : place(entry, id);
                  }));
  return index_.meta().full && !index_.meta().pristine ? place_missing() : Outcome<void>{};
}

// Makes directories that keep their name but were removed by somebody else.
Outcome<void> Place::place_missing() {
  return each(index_, &Index::for_each_staged, [&](FileId id, StagedNode& node) -> Outcome<void> {
    const bool ours = index_.is_current(node) && !node.forgotten;
    if (!ours || !journal::is_directory(node.attributes.mode)) return {};
    EPOCHFS_TRY(bool has_name, view_.has_name(id));
    if (!has_name) return {};
    EPOCHFS_TRY([[maybe_unused]] Directory placed, directory(id));
    return {};
  });
}

Result<bool> Place::unchanged(const EntryName& entry, FileId child) {
  EPOCHFS_TRY(FileId old, index_.child(entry));
  if (old != child) return false;
  return view_.stays(entry, child);
}

Outcome<void> Place::place(const EntryName& entry, FileId id) {
  EPOCHFS_TRY(Directory parent, directory(entry.parent));
  EPOCHFS_TRY(uint32_t mode, view_.mode(id));
  EPOCHFS_DO(steps_.at("place: name"));
  if (journal::is_directory(mode)) return place_directory(parent->get(), entry, id);
  EPOCHFS_TRY(Source source, source_of(entry, id));
  return place_file(parent->get(), entry.name, source);
}

// ---- directories ----

Outcome<Directory> Place::directory(FileId id) {
  std::vector<std::pair<EntryName, FileId>> trail;
  Directory at;
  for (FileId up = id; !at;) {
    if ((at = cache_.find(up))) break;
    if (view_.is_root(up)) {
      UniqueFd fd(::openat(folders_.root.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!fd) return fail_errno("open target directory " + folders_.path);
      at = cache_.insert(up, std::move(fd));
      break;
    }
    EPOCHFS_TRY(auto name, view_.first_name(up));
    if (!name) return unknown_state("find directory " + inode_text(up) + ": it has no name");
    FileId parent = name->parent;
    trail.emplace_back(std::move(*name), up);
    up = parent;
  }
  for (; !trail.empty(); trail.pop_back()) {
    const auto& [entry, below] = trail.back();
    EPOCHFS_TRY(auto node, index_.node(below));
    EPOCHFS_TRY(bool right, unchanged(entry, below));
    // What somebody else put there must not be mistaken for a directory that moves there.
    const bool moves = node && journal::is_directory(node->mode) && !right;
    Directory next;
    if (!moves) {
      EPOCHFS_TRY(next, open_subdirectory(at->get(), entry.name, below, cache_));
    }
    if (!next) {
      EPOCHFS_DO(place_directory(at->get(), entry, below));
      EPOCHFS_TRY(next, open_subdirectory(at->get(), entry.name, below, cache_));
    }
    if (!next) return unknown_state("open directory " + escape(entry.name) + ": it vanished");
    at = std::move(next);
  }
  return at;
}

Outcome<void> Place::place_directory(int parent, const EntryName& entry, FileId id) {
  EPOCHFS_TRY(auto node, index_.node(id));
  EPOCHFS_TRY(bool replaced, view_.replaced(id));
  const bool known = node && journal::is_directory(node->mode) && !replaced;
  if (known) {
    EPOCHFS_TRY(bool there, from_limbo(parent, entry.name, id));
    if (there || is_directory_there(parent, entry.name)) return {};
    // A full transfer sends everything in the directory.
    if (!index_.meta().full) {
      return unknown_state(
          fmt::format("find directory \"{}\": it is not on the target", escape(entry.name)));
    }
  }
  EPOCHFS_DO(make_directory(parent, entry.name));
  return {};
}

Result<void> Place::make_directory(int parent, const std::string& name) {
  for (bool again = true;; again = false) {
    if (::mkdirat(parent, name.c_str(), 0700) == 0) return {};
    int code = errno;
    if (code == EEXIST && is_directory_there(parent, name)) return {};
    if (code != EEXIST || !again) return fail("make directory " + escape(name), code);
    EPOCHFS_DO(limbo_.displace(parent, name));
  }
}

// False: the directory is not in limbo.
Outcome<bool> Place::from_limbo(int parent, const std::string& name, FileId id) {
  for (bool again = true;; again = false) {
    if (::renameat(limbo_.fd(), stage_name(id).c_str(), parent, name.c_str()) == 0) return true;
    int code = errno;
    if (code == ENOENT) return false;
    if (!is_in_the_way(code) || !again) return fail("place directory " + escape(name), code);
    EPOCHFS_DO(limbo_.displace(parent, name));
  }
}

// ---- files of all other types ----

// A file's names are placed in order. The last one moves it out of the stage; all others are links
// to it.
Outcome<Place::Source> Place::source_of(const EntryName& entry, FileId id) {
  EPOCHFS_TRY(auto head, view_.announced(id));
  EPOCHFS_TRY(Fate fate, view_.fate(id));
  Source source{.name = stage_name(id), .last = fate.last == entry};
  if (head && head->incoming) {
    source.dir = folders_.incoming.get();
    source.inode = head->target_inode;
    return source;
  }
  EPOCHFS_TRY(auto node, index_.node(id));
  if (!node) return unknown_state("name " + inode_text(id) + ": the target does not have it");
  source.inode = node->target_inode;
  source.dir = limbo_.fd();
  if (!fate.kept) return source;
  EPOCHFS_TRY(source.holder, directory(fate.kept->parent));
  source.dir = source.holder->get();
  source.name = fate.kept->name;
  source.last = false;
  if (is_file_there(source.dir, source.name, source.inode)) return source;
  return unknown_state(fmt::format("link file \"{}\": another hand has changed it on the target",
                                   escape(source.name)));
}

Outcome<void> Place::place_file(int parent, const std::string& name, const Source& source) {
  for (int attempt = 0;; ++attempt) {
    const int code = give_name(parent, name, source);
    if (code == 0 || is_file_there(parent, name, source.inode)) return {};
    if (code == ENOENT) {
      return unknown_state(fmt::format("place file \"{}\": it is not in the stage", escape(name)));
    }
    if (!is_in_the_way(code) || attempt > 0) return fail("place file " + escape(name), code);
    EPOCHFS_DO(limbo_.displace(parent, name));
  }
}

// Replaces what has the name in one step. 0 or errno.
int Place::give_name(int parent, const std::string& name, const Source& source) {
  if (source.last) {
    return ::renameat(source.dir, source.name.c_str(), parent, name.c_str()) == 0 ? 0 : errno;
  }
  if (::linkat(source.dir, source.name.c_str(), parent, name.c_str(), 0) == 0) return 0;
  if (errno != EEXIST) return errno;
  if (is_file_there(parent, name, source.inode)) return 0;
  // linkat replaces nothing: make the link elsewhere, then rename it.
  constexpr const char* kLink = "link";
  ::unlinkat(limbo_.fd(), kLink, 0);
  if (::linkat(source.dir, source.name.c_str(), limbo_.fd(), kLink, 0) != 0) return errno;
  return ::renameat(limbo_.fd(), kLink, parent, name.c_str()) == 0 ? 0 : errno;
}

}  // namespace epochfs::replicator
