#include "replicator/target/receive/stage.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "journal/base/directory.h"
#include "journal/preimages/attributes.h"
#include "replicator/target/directory/beneath.h"

namespace epochfs::replicator {
namespace {

constexpr uint64_t kCheckpointNs = 10'000'000'000;  // no more than this is received again
constexpr size_t kPutsACall = 4 * 8192;             // the most changes that one call makes

// Whether the staged bytes are those that the message announces.
bool same_bytes(const StagedHead& old, const NodeMessage& m) {
  const FixedAttributes &a = old.attributes, &b = m.attributes;
  if (a.size != b.size) return false;
  if (m.version != 0) return old.version == m.version;
  return a.mtime == b.mtime && a.ctime == b.ctime;
}

bool same_attributes(const StagedNode& a, const StagedNode& b) {
  return a.attributes == b.attributes && a.xattrs == b.xattrs &&
         a.symlink_target == b.symlink_target;
}

void keep_finished(const StagedNode& old, StagedNode& node) {
  node.finished = true;
  node.target_inode = old.target_inode;
  node.target_mtime = old.target_mtime;
}

}  // namespace

Stage::Stage(Storage& storage, Index& index, const Folders& folders, IsIntact is_intact)
    : index_(index),
      folders_(folders),
      is_intact_(std::move(is_intact)),
      files_(storage, index, folders),
      last_checkpoint_ns_(now_ns()) {}

Stage::~Stage() = default;

Result<void> Stage::sweep() {
  EPOCHFS_DO(files_.sweep());
  return empty_directory(folders_.limbo.get(), "the target's limbo");
}

Result<void> Stage::begin(const TransferPlan& plan) {
  EPOCHFS_DO(files_.close_all());
  const IndexMeta& was = index_.meta();
  const bool useful = was.full == plan.full && (!plan.full || was.walk_since == plan.walk_since);
  if (was.staging && !useful) EPOCHFS_DO(discard());
  // Names are small, and a name that an earlier attempt sent may be gone.
  EPOCHFS_DO(index_.clear_staged_names());
  IndexMeta meta = index_.meta();
  ++meta.generation;
  meta.staging = true;
  meta.full = plan.full;
  meta.walk_since = plan.full ? plan.walk_since : 0;
  EPOCHFS_DO(index_.put_meta(meta));
  unknown_.clear();
  files_.begin();
  last_checkpoint_ns_ = now_ns();
  return {};
}

Result<void> Stage::discard() {
  reset();
  EPOCHFS_DO(index_.clear_stage());
  IndexMeta meta = index_.meta();
  meta.staging = false;
  EPOCHFS_DO(index_.put_meta(meta));
  // Claims are removed before the files.
  EPOCHFS_DO(index_.commit());
  return files_.remove_all();
}

void Stage::reset() {
  files_.reset();
  unknown_.clear();
}

// ---- nodes ----

Result<std::vector<Need>> Stage::nodes(std::vector<NodeMessage> nodes) {
  std::vector<Need> needs;
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    EPOCHFS_DO(announce(std::move(nodes[i]), i, needs));
  }
  nodes_ += nodes.size();
  EPOCHFS_DO(checkpoint_if_due());
  return needs;
}

Result<void> Stage::announce(NodeMessage message, uint32_t position, std::vector<Need>& needs) {
  EPOCHFS_DO(files_.close(message.id));
  EPOCHFS_TRY(auto old, index_.staged(message.id));
  StagedNode node;
  node.attributes = message.attributes;
  node.xattrs = std::move(message.xattrs);
  node.symlink_target = std::move(message.symlink_target);
  node.version = message.version;
  node.generation = index_.meta().generation;
  message.fresh = message.fresh || (old && index_.is_current(*old) && old->fresh);
  node.fresh = message.fresh;
  EPOCHFS_DO(take_content(message, old, node));
  const bool asked = message.content != Content::kNone;
  if (asked && node.content == Content::kNone) {
    needs.push_back({position, rpc::NOTHING_NEEDED});
  } else if (asked && node.resume_at() > 0) {
    needs.push_back({position, node.is_complete() ? rpc::NOTHING_NEEDED : node.resume_at()});
  }
  // No block will come for this file, so it is made now.
  if (node.incoming && !node.finished &&
      (!journal::is_regular(node.attributes.mode) || node.is_complete())) {
    return files_.complete(message.id, std::move(node));
  }
  return index_.put_staged(message.id, node);
}

Result<void> Stage::take_content(const NodeMessage& m, const std::optional<StagedNode>& old,
                                 StagedNode& node) {
  switch (m.content) {
    case Content::kNone: return take_none(m, old, node);
    case Content::kWhole: return take_whole(m, old, node);
    case Content::kRanges: return take_ranges(m, old, node);
  }
  return {};
}

// Keeps what is staged already, up to where it is certain.
Result<void> Stage::resume(FileId id, const StagedNode& old, StagedNode& node) {
  const uint64_t at = old.resume_at();
  node.content = old.content;
  node.incoming = old.incoming;
  node.floor = node.received = at;
  if (!node.incoming) return {};
  const bool regular = journal::is_regular(node.attributes.mode);
  const bool partial = regular && at > 0 && at < node.attributes.size;
  EPOCHFS_TRY(bool there, files_.has_incoming(id, partial ? std::optional(at) : std::nullopt));
  if (!there) {
    node.floor = node.received = 0;
    return {};
  }
  if (old.finished && same_attributes(old, node) && (!regular || node.is_complete())) {
    keep_finished(old, node);
  }
  return {};
}

// The file that the target has under this id, if it is the one that the message means.
Result<std::optional<IndexedNode>> Stage::usable(const NodeMessage& m) {
  if (m.fresh) return std::nullopt;
  EPOCHFS_TRY(auto node, index_.node(m.id));
  const bool same_type = node && (node->mode & S_IFMT) == (m.attributes.mode & S_IFMT);
  if (!same_type) return std::nullopt;
  return node;
}

// Full transfers: whether the target has exactly these bytes already.
Result<bool> Stage::has_intact(const NodeMessage& m) {
  EPOCHFS_TRY(auto node, usable(m));
  if (!node || node->size != m.attributes.size) return false;
  const bool versions = m.version != 0 && node->version != 0;
  const bool same = versions
                        ? m.version == node->version
                        : node->mtime == m.attributes.mtime && node->ctime == m.attributes.ctime;
  if (!same) return false;
  return is_intact_(m.id, *node);
}

Result<void> Stage::take_none(const NodeMessage& m, const std::optional<StagedNode>& old,
                              StagedNode& node) {
  const bool same_type = old && (old->attributes.mode & S_IFMT) == (m.attributes.mode & S_IFMT);
  if (journal::is_regular(m.attributes.mode) && same_type && index_.is_current(*old) &&
      old->content != Content::kNone) {
    // Only the attributes are new.
    node.content = old->content;
    node.incoming = old->incoming;
    node.version = old->version;
    node.received = old->received;
    node.floor = old->floor;
    node.trusted_end = old->trusted_end;
    if (old->finished && same_attributes(*old, node)) keep_finished(*old, node);
    return {};
  }
  EPOCHFS_TRY(auto indexed, usable(m));
  if (!journal::is_regular(m.attributes.mode) && !journal::is_directory(m.attributes.mode)) {
    bool there = indexed.has_value();
    if (there && index_.meta().full) {
      EPOCHFS_TRY(there, is_intact_(m.id, *indexed));
    }
    node.incoming = !there;
    if (node.incoming && old && old->incoming && same_attributes(*old, node)) {
      return resume(m.id, *old, node);
    }
  }
  if (old) EPOCHFS_DO(files_.drop(m.id, *old));
  if (!journal::is_regular(m.attributes.mode)) return {};
  if (!indexed) {
    unknown_ = "take " + inode_text(m.id) + " with its old bytes: the target does not have it";
  } else if (indexed->size != m.attributes.size) {
    node.content = Content::kRanges;  // it was truncated, which needs no block
  }
  return {};
}

Result<void> Stage::take_whole(const NodeMessage& m, const std::optional<StagedNode>& old,
                               StagedNode& node) {
  if (old && old->content == Content::kWhole && same_bytes(*old, m))
    return resume(m.id, *old, node);
  if (old) EPOCHFS_DO(files_.drop(m.id, *old));
  if (index_.meta().full) {
    EPOCHFS_TRY(bool there, has_intact(m));
    // The source may send blocks before it knows; they are ignored.
    if (there) node.floor = m.attributes.size;
    if (there) return {};
  }
  node.content = Content::kWhole;
  node.incoming = true;
  return {};
}

Result<void> Stage::take_ranges(const NodeMessage& m, const std::optional<StagedNode>& old,
                                StagedNode& node) {
  const bool whole = old && old->content == Content::kWhole;
  if (old && old->content != Content::kNone && m.version != 0 && same_bytes(*old, m)) {
    return resume(m.id, *old, node);
  }
  if (whole && index_.is_current(*old)) {
    // The new blocks overwrite what was received before. Until all have come, only bytes below
    // the last of them are certain.
    node.content = Content::kWhole;
    node.incoming = true;
    node.trusted_end = old->resume_at();
    return {};
  }
  if (old) EPOCHFS_DO(files_.drop(m.id, *old));
  EPOCHFS_TRY(auto indexed, usable(m));
  if (!indexed) {
    unknown_ = fmt::format("take ranges of {}: the target does not have it", inode_text(m.id));
  }
  node.content = Content::kRanges;
  return {};
}

Result<void> Stage::forget(const std::vector<FileId>& files) {
  for (FileId id : files) {
    EPOCHFS_DO(files_.close(id));
    EPOCHFS_TRY(auto node, index_.staged(id));
    if (!node) continue;
    EPOCHFS_DO(files_.drop(id, *node));
    node->content = Content::kNone;
    node->incoming = node->finished = false;
    node->forgotten = true;
    node->generation = index_.meta().generation;
    EPOCHFS_DO(index_.put_staged(id, *node));
  }
  return checkpoint_if_due();
}

// ---- names ----

Result<void> Stage::names(const std::vector<NameMessage>& names) {
  for (const NameMessage& n : names) EPOCHFS_DO(index_.put_staged_name(n.entry, n.child));
  return checkpoint_if_due();
}

Result<void> Stage::listed(const std::vector<FileId>& directories) {
  if (!index_.meta().full) return fail("list directories: this transfer is not a full one");
  for (FileId id : directories) EPOCHFS_DO(index_.put_listed(id));
  return checkpoint_if_due();
}

// ---- blocks ----

Result<void> Stage::blocks(const std::vector<BlockMessage>& blocks) {
  EPOCHFS_DO(files_.take(blocks));
  return checkpoint_if_due();
}

// ---- durability ----

Result<void> Stage::finish() { return files_.complete_all(); }

Result<void> Stage::sync() { return files_.sync(); }

Result<void> Stage::checkpoint() {
  EPOCHFS_DO(files_.note_all());
  EPOCHFS_DO(sync());
  EPOCHFS_DO(index_.commit());
  last_checkpoint_ns_ = now_ns();
  return {};
}

Result<void> Stage::checkpoint_if_due() {
  if (now_ns() - last_checkpoint_ns_ < kCheckpointNs && !index_.crowded(kPutsACall)) return {};
  EPOCHFS_DO(checkpoint());
  return index_.make_room(kPutsACall);
}

}  // namespace epochfs::replicator
