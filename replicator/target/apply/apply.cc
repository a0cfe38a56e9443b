#include "replicator/target/apply/apply.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "journal/preimages/attributes.h"
#include "replicator/target/apply/vacate.h"
#include "replicator/target/directory/content.h"
#include "replicator/target/directory/metadata.h"

namespace epochfs::replicator {
namespace {

// Syncing the file system also writes the data of others, which can be much. Syncing single
// files costs a disk flush for each.
constexpr size_t kFewFiles = 4;

}  // namespace

Apply::Apply(Storage& storage, Index& index, const Folders& folders, Steps& steps)
    : storage_(storage),
      index_(index),
      folders_(folders),
      steps_(steps),
      view_(index, index.meta().mark_root),
      place_(index, view_, folders, steps) {}

Outcome<void> Apply::run() {
  EPOCHFS_CHECK(index_.meta().phase != ApplyPhase::kNone);
  EPOCHFS_TRY(size_t nodes, index_.count_staged());
  EPOCHFS_TRY(size_t names, index_.count_staged_names());
  few_ = nodes <= kFewFiles && names == 0;
  if (index_.meta().phase == ApplyPhase::kCommitted) EPOCHFS_DO(vacate());
  EPOCHFS_DO(place_.run());
  EPOCHFS_DO(fill());
  EPOCHFS_DO(restore_times());
  EPOCHFS_DO(steps_.at("apply: before sync"));
  EPOCHFS_DO(sync());
  EPOCHFS_DO(steps_.at("apply: before publishing"));
  EPOCHFS_DO(publish());
  EPOCHFS_DO(steps_.at("apply: published"));
  return {};
}

Outcome<void> Apply::vacate() {
  Vacate vacate(index_, view_, folders_, steps_);
  EPOCHFS_TRY(bool must_mark, vacate.run());
  if (!must_mark) return {};
  EPOCHFS_DO(steps_.at("apply: vacated"));
  EPOCHFS_DO(storage_.sync_filesystem("target: vacated names", folders_.root.get(), folders_.path));
  IndexMeta meta = index_.meta();
  meta.phase = ApplyPhase::kNamesVacated;
  EPOCHFS_DO(index_.put_meta(meta));
  EPOCHFS_DO(index_.commit());
  EPOCHFS_DO(steps_.at("apply: vacated and marked"));
  return {};
}

// ---- bytes and attributes ----

Outcome<void> Apply::fill() {
  return each(index_, &Index::for_each_staged, [&](FileId id, StagedNode& node) -> Outcome<void> {
    const bool ours = index_.is_current(node) && !node.forgotten;
    return ours && !node.incoming ? fill_file(id, node) : Outcome<void>{};
  });
}

Outcome<void> Apply::fill_file(FileId id, StagedNode& node) {
  if (!view_.is_root(id)) {
    EPOCHFS_TRY(bool has_name, view_.has_name(id));
    if (!has_name) return {};
  }
  EPOCHFS_DO(steps_.at("fill: file"));
  EPOCHFS_TRY(UniqueFd fd, open_node(id, node));
  const std::string what = inode_text(id);
  if (node.content == Content::kRanges) {
    EPOCHFS_DO(
        apply_ranges(index_, folders_.extents.get(), id, fd.get(), node.attributes.size, what));
    EPOCHFS_DO(steps_.at("fill: attributes"));
  }
  EPOCHFS_TRY(auto applied, apply_metadata(fd.get(), node, what));
  node.target_inode = applied.target_inode;
  node.target_mtime = applied.target_mtime;
  EPOCHFS_DO(index_.put_staged(id, node));
  // Only regular files and directories can be synced by themselves.
  if (!journal::is_regular(node.attributes.mode) && !journal::is_directory(node.attributes.mode))
    few_ = false;
  if (few_) filled_.push_back(std::move(fd));
  return {};
}

// Opens a file with O_PATH unless more is needed: a device or FIFO must not really be opened.
Outcome<UniqueFd> Apply::open_node(FileId id, const StagedNode& node) {
  const uint32_t mode = node.attributes.mode;
  if (journal::is_directory(mode)) {
    EPOCHFS_TRY(Directory dir, place_.directory(id));
    UniqueFd fd(::openat(dir->get(), ".", (few_ ? O_RDONLY : O_PATH) | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail_errno("open directory " + inode_text(id));
    return fd;
  }
  EPOCHFS_TRY(auto name, view_.first_name(id));
  EPOCHFS_TRY(auto indexed, index_.node(id));
  if (!name || !indexed)
    return unknown_state("change " + inode_text(id) + ": the target does not have it");
  EPOCHFS_TRY(Directory parent, place_.directory(name->parent));
  int flags = O_PATH;
  if (journal::is_regular(mode) && few_) flags = O_RDONLY | O_NONBLOCK;
  if (node.content == Content::kRanges) flags = O_RDWR | O_NONBLOCK;
  UniqueFd fd(open_beneath(parent->get(), name->name.c_str(), flags));
  struct stat s;
  const bool there = fd.get() >= 0 && ::fstat(fd.get(), &s) == 0;
  if (!there && fd.get() != -ENOENT && fd.get() != -ELOOP && fd.get() != -ENXIO) {
    return fail("open " + escape(name->name), -fd.get());
  }
  if (!there || s.st_ino != indexed->target_inode) {
    return unknown_state(fmt::format("change file \"{}\": another hand has {} it on the target",
                                     escape(name->name), there ? "replaced" : "removed"));
  }
  return fd;
}

// Placing names changed the mtime of directories. Restores it where the source did not announce
// the directory: replacing a file under the same name does not change its directory.
Outcome<void> Apply::restore_times() {
  FileId last;
  bool changed = false;
  auto finish = [&]() -> Result<void> { return changed ? restore_time(last) : Result<void>{}; };
  EPOCHFS_DO(index_.for_each_staged_name([&](const EntryName& entry, FileId id) -> Result<void> {
    if (entry.parent != last) {
      EPOCHFS_DO(finish());
      last = entry.parent;
      changed = false;
    }
    if (changed) return {};
    EPOCHFS_TRY(bool right, place_.unchanged(entry, id));
    changed = !right;
    return {};
  }));
  EPOCHFS_DO(finish());
  return {};
}

Result<void> Apply::restore_time(FileId id) {
  EPOCHFS_TRY(auto head, view_.announced(id));
  EPOCHFS_TRY(auto node, index_.node(id));
  if (head || !node || !journal::is_directory(node->mode)) return {};
  if (!view_.is_root(id)) {
    EPOCHFS_TRY(bool has_name, view_.has_name(id));
    if (!has_name) return {};
  }
  auto dir = place_.directory(id);
  if (!dir) return tl::unexpected(dir.error().error);
  return apply_mtime((*dir)->get(), node->mtime, inode_text(id));
}

Result<void> Apply::sync() {
  if (!few_) {
    filled_.clear();
    return storage_.sync_filesystem("target: epoch", folders_.root.get(), folders_.path);
  }
  for (const UniqueFd& fd : filled_) {
    // fsync, not fdatasync: attributes matter as much as bytes.
    EPOCHFS_DO(
        storage_.sync_directory("target: file of the epoch", fd.get(), "a file of the target"));
  }
  filled_.clear();
  return {};
}

// ---- the index ----

Result<void> Apply::publish() {
  EPOCHFS_TRY(size_t nodes, index_.count_staged());
  EPOCHFS_TRY(size_t names, index_.count_staged_names());
  EPOCHFS_DO(index_.make_room(4 * (nodes + names)));
  EPOCHFS_DO(index_.for_each_staged([&](FileId id, const StagedNode& node) -> Result<void> {
    if (!index_.is_current(node) || node.forgotten) return {};
    EPOCHFS_TRY(bool has_name, view_.has_name(id));
    return has_name || view_.is_root(id) ? publish_node(id, node) : Result<void>{};
  }));
  EPOCHFS_DO(publish_names());
  EPOCHFS_DO(index_.clear_stage());
  IndexMeta meta = index_.meta();
  meta.cursor = meta.mark_epoch;
  meta.state_hash = meta.mark_hash;
  meta.barrier_ns = meta.mark_barrier_ns;
  meta.source_root = meta.mark_root;
  meta.phase = ApplyPhase::kNone;
  meta.staging = meta.full = meta.pristine = false;
  meta.walk_since = 0;
  EPOCHFS_DO(index_.put_meta(meta));
  return index_.commit();
}

Result<void> Apply::publish_names() {
  std::vector<FileId> losers;
  EPOCHFS_DO(index_.for_each_staged_name([&](const EntryName& entry, FileId id) -> Result<void> {
    EPOCHFS_TRY(FileId old, index_.child(entry));
    if (old == id) return {};
    if (old) losers.push_back(old);
    return index_.put_name(entry, id);
  }));
  for (FileId id : losers) {
    EPOCHFS_TRY(bool has_links, index_.has_links(id));
    if (!has_links && !view_.is_root(id)) EPOCHFS_DO(index_.remove_node(id));
  }
  return {};
}

Result<void> Apply::publish_node(FileId id, const StagedNode& node) {
  IndexedNode out{.mode = node.attributes.mode,
                  .size = node.attributes.size,
                  .version = node.version,
                  .mtime = node.attributes.mtime,
                  .ctime = node.attributes.ctime,
                  .target_inode = node.target_inode,
                  .target_mtime = node.target_mtime};
  if (node.content == Content::kNone && out.version == 0) {
    EPOCHFS_TRY(auto old, index_.node(id));
    if (old) out.version = old->version;
  }
  return index_.put_node(id, out);
}

}  // namespace epochfs::replicator
