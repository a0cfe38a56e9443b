#include "replicator/target/receive/stage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "journal/base/directory.h"
#include "journal/preimages/attributes.h"
#include "replicator/target/directory/beneath.h"
#include "replicator/target/directory/content.h"
#include "replicator/target/directory/metadata.h"

namespace epochfs::replicator {
namespace {

constexpr size_t kMaxOpenFiles = 32;
constexpr size_t kMaxInlineBytes = 16 << 10;        // of one block that goes into the index
constexpr uint64_t kMaxInlineTotal = 8 << 20;       // of one transfer
constexpr uint64_t kCheckpointNs = 10'000'000'000;  // at most this much receiving is done twice
constexpr size_t kPutsACall = 4 * 8192;             // most changes to the index by one call

std::string staged_file(FileId id) { return "staged " + inode_text(id); }

// Whether what is staged are the bytes that the message speaks of.
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

bool is_complete(const StagedHead& node) { return node.resume_at() >= node.attributes.size; }

Result<void> remove_staged_file(int dir, FileId id) {
  if (::unlinkat(dir, stage_name(id).c_str(), 0) != 0 && errno != ENOENT) {
    return fail_errno("remove " + staged_file(id));
  }
  return {};
}

}  // namespace

Stage::Stage(Storage& storage, Index& index, const Folders& folders, IsIntact is_intact)
    : storage_(storage),
      index_(index),
      folders_(folders),
      is_intact_(std::move(is_intact)),
      write_back_(folders.incoming.get()),
      last_checkpoint_ns_(now_ns()) {}

Stage::~Stage() = default;

bool Stage::current(const StagedHead& node) const {
  return node.generation == index_.meta().generation;
}

Result<void> Stage::sweep() {
  auto sweep_folder = [&](int dir, Content content) {
    return for_each_entry(dir, "the target's stage", [&](const char* name) -> Result<void> {
      FileId id;
      if (parse_stage_name(name, id)) {
        EPOCHFS_TRY(auto node, index_.staged_head(id));
        bool wanted =
            node && (content == Content::kRanges ? node->content == content : node->incoming);
        if (wanted) return {};
      }
      if (::unlinkat(dir, name, 0) == 0 || errno == ENOENT) return {};
      return fail_errno(fmt::format("remove {} of the target's stage", name));
    });
  };
  EPOCHFS_DO(sweep_folder(folders_.incoming.get(), Content::kWhole));
  EPOCHFS_DO(sweep_folder(folders_.extents.get(), Content::kRanges));
  return empty_directory(folders_.limbo.get(), "the target's limbo");
}

Result<void> Stage::begin(const TransferPlan& plan) {
  EPOCHFS_DO(close_all());
  const IndexMeta& was = index_.meta();
  const bool useful = was.full == plan.full && (!plan.full || was.walk_since == plan.walk_since);
  if (was.staging && !useful) EPOCHFS_DO(discard());
  // Names are few, and a name that was seen by an earlier attempt may be gone.
  EPOCHFS_DO(index_.clear_staged_names());
  IndexMeta meta = index_.meta();
  ++meta.generation;
  meta.staging = true;
  meta.full = plan.full;
  meta.walk_since = plan.full ? plan.walk_since : 0;
  EPOCHFS_DO(index_.put_meta(meta));
  unknown_.clear();
  inline_bytes_ = 0;
  last_checkpoint_ns_ = now_ns();
  return {};
}

Result<void> Stage::discard() {
  reset();
  EPOCHFS_DO(index_.clear_stage());
  IndexMeta meta = index_.meta();
  meta.staging = false;
  EPOCHFS_DO(index_.put_meta(meta));
  // The claims go before the files.
  EPOCHFS_DO(index_.commit());
  EPOCHFS_DO(empty_directory(folders_.incoming.get(), "the target's stage"));
  return empty_directory(folders_.extents.get(), "the target's stage");
}

void Stage::reset() {
  open_.clear();
  open_by_id_.clear();
  unknown_.clear();
  files_changed_ = false;
}

// ---- nodes ----

Result<std::vector<Need>> Stage::nodes(std::vector<NodeMessage> nodes) {
  std::vector<Need> needs;
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    EPOCHFS_DO(announce(std::move(nodes[i]), i, needs));
  }
  counters_.nodes += nodes.size();
  EPOCHFS_DO(checkpoint_if_due());
  return needs;
}

Result<void> Stage::announce(NodeMessage message, uint32_t position, std::vector<Need>& needs) {
  if (auto at = open_by_id_.find(message.id); at != open_by_id_.end()) {
    EPOCHFS_DO(close_file(at->second));
  }
  EPOCHFS_TRY(auto old, index_.staged(message.id));
  StagedNode node;
  node.attributes = message.attributes;
  node.xattrs = std::move(message.xattrs);
  node.symlink_target = std::move(message.symlink_target);
  node.version = message.version;
  node.generation = index_.meta().generation;
  message.fresh = message.fresh || (old && current(*old) && old->fresh);
  node.fresh = message.fresh;
  EPOCHFS_DO(take_content(message, old, node));
  const bool asked = message.content != Content::kNone;
  if (asked && node.content == Content::kNone) {
    needs.push_back({position, kNothingNeeded});
  } else if (asked && node.resume_at() > 0) {
    needs.push_back({position, is_complete(node) ? kNothingNeeded : node.resume_at()});
  }
  // A file for which no block will come is made now.
  if (node.incoming && !node.finished &&
      (!journal::is_regular(node.attributes.mode) || is_complete(node))) {
    OpenFile file{.id = message.id, .node = std::move(node)};
    return finish_file(file);
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

// Takes over what is staged already, up to where it is certain.
Result<void> Stage::resume(FileId id, const StagedNode& old, StagedNode& node) {
  const uint64_t at = old.resume_at();
  node.content = old.content;
  node.incoming = old.incoming;
  node.floor = node.received = at;
  if (!node.incoming) return {};
  // Written but not accounted for: it would show through where nothing follows.
  const std::string name = stage_name(id);
  const bool regular = journal::is_regular(node.attributes.mode);
  const bool partial = regular && at > 0 && at < node.attributes.size;
  UniqueFd fd(::openat(folders_.incoming.get(), name.c_str(),
                       (partial ? O_WRONLY : O_PATH) | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno != ENOENT) return fail_errno("open " + staged_file(id));
  if (!fd) {
    node.floor = node.received = 0;
    return {};
  }
  if (partial && ::ftruncate(fd.get(), off_t(at)) != 0) {
    return fail_errno("truncate " + staged_file(id));
  }
  files_changed_ = files_changed_ || partial;
  if (old.finished && same_attributes(old, node) && (!regular || is_complete(node))) {
    keep_finished(old, node);
  }
  return {};
}

Result<void> Stage::drop_content(FileId id, const StagedNode& node) {
  if (node.incoming) EPOCHFS_DO(remove_staged_file(folders_.incoming.get(), id));
  if (node.content != Content::kRanges) return {};
  EPOCHFS_DO(index_.remove_ranges(id));
  return remove_staged_file(folders_.extents.get(), id);
}

// What the target has under this id, if it is the file that the message means.
Result<std::optional<IndexedNode>> Stage::usable(const NodeMessage& m) {
  if (m.fresh) return std::nullopt;
  EPOCHFS_TRY(auto node, index_.node(m.id));
  const bool same_type = node && (node->mode & S_IFMT) == (m.attributes.mode & S_IFMT);
  if (!same_type) return std::nullopt;
  return node;
}

// Full transfers: the target has these very bytes already.
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
  if (journal::is_regular(m.attributes.mode) && same_type && current(*old) &&
      old->content != Content::kNone) {
    // Only its attributes are new.
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
  if (old) EPOCHFS_DO(drop_content(m.id, *old));
  if (!journal::is_regular(m.attributes.mode)) return {};
  if (!indexed) {
    unknown_ = "take " + inode_text(m.id) + " with its old bytes: the target does not have it";
  } else if (indexed->size != m.attributes.size) {
    node.content = Content::kRanges;  // it was cut short, which takes no block
  }
  return {};
}

Result<void> Stage::take_whole(const NodeMessage& m, const std::optional<StagedNode>& old,
                               StagedNode& node) {
  if (old && old->content == Content::kWhole && same_bytes(*old, m))
    return resume(m.id, *old, node);
  if (old) EPOCHFS_DO(drop_content(m.id, *old));
  if (index_.meta().full) {
    EPOCHFS_TRY(bool there, has_intact(m));
    // Blocks that are under way before the source knows are not needed.
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
  if (whole && current(*old)) {
    // Blocks go over the bytes that came before. Until all have come, only what
    // lies below the last of them is certain.
    node.content = Content::kWhole;
    node.incoming = true;
    node.trusted_end = old->resume_at();
    return {};
  }
  if (old) EPOCHFS_DO(drop_content(m.id, *old));
  EPOCHFS_TRY(auto indexed, usable(m));
  if (!indexed) {
    unknown_ = fmt::format("take ranges of {}: the target does not have it", inode_text(m.id));
  }
  node.content = Content::kRanges;
  return {};
}

Result<void> Stage::forget(const std::vector<FileId>& files) {
  for (FileId id : files) {
    if (auto at = open_by_id_.find(id); at != open_by_id_.end()) EPOCHFS_DO(close_file(at->second));
    EPOCHFS_TRY(auto node, index_.staged(id));
    if (!node) continue;
    EPOCHFS_DO(drop_content(id, *node));
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
  EPOCHFS_DO(check_blocks(blocks));
  for (const BlockMessage& block : blocks) {
    EPOCHFS_TRY(OpenFile * file, open_file(block.id));
    if (!file) continue;  // nothing of it is needed
    EPOCHFS_DO(take_block(*file, block));
    if (!block.hole) counters_.bytes += block.length;
    const bool done =
        file->node.incoming && file->node.trusted_end == UINT64_MAX && is_complete(file->node);
    if (done) {
      auto at = open_by_id_.at(block.id);
      EPOCHFS_DO(finish_file(*at));
      EPOCHFS_DO(close_file(at));
    }
  }
  return checkpoint_if_due();
}

// Refuses a call with any block that cannot be taken, before the first is.
Result<void> Stage::check_blocks(const std::vector<BlockMessage>& blocks) {
  std::unordered_map<FileId, StagedHead> heads;
  for (const BlockMessage& b : blocks) {
    auto [at, first] = heads.try_emplace(b.id);
    StagedHead& head = at->second;
    if (first) {
      if (auto open = open_by_id_.find(b.id); open != open_by_id_.end()) {
        head = open->second->node;
      } else {
        EPOCHFS_TRY(auto staged, index_.staged_head(b.id));
        if (staged) head = *staged;
      }
    }
    const uint64_t end = b.offset + b.length;
    const bool announced =
        head.generation && current(head) && (head.content != Content::kNone || end <= head.floor);
    if (!announced) {
      return fail(fmt::format("take a block of {}: it was not announced", inode_text(b.id)));
    }
    if (end > head.attributes.size) {
      return fail(fmt::format("take a block of {}: it ends at {}, the file at {}", inode_text(b.id),
                              end, head.attributes.size));
    }
    if (std::max(b.offset, head.floor) < head.received && end > head.floor) {
      return fail(fmt::format("take a block of {}: it begins at {}, which follows {}",
                              inode_text(b.id), b.offset, head.received));
    }
    head.received = std::max(head.received, end);
  }
  return {};
}

Result<void> Stage::take_block(OpenFile& file, BlockMessage block) {
  // What came before the transfer was interrupted may come again.
  const uint64_t floor = file.node.floor, end = block.offset + block.length;
  if (end <= floor) return {};
  if (block.offset < floor) {
    const uint64_t skip = floor - block.offset;
    block.offset += skip;
    block.length -= skip;
    if (!block.hole) block.bytes.remove_prefix(skip);
  }
  EPOCHFS_DO(file.node.incoming ? take_whole_block(file, block) : take_range_block(file, block));
  file.node.received = std::max(file.node.received, end);
  file.changed = true;
  return {};
}

Result<void> Stage::take_whole_block(OpenFile& file, const BlockMessage& block) {
  file.node.finished = false;
  if (!block.hole) return write(file, block);
  // A file that is written once is empty there; only a patch has to clear it.
  if (file.node.trusted_end == UINT64_MAX) return {};
  EPOCHFS_DO(open_for_writing(file));
  files_changed_ = true;
  return clear_range(file.fd.get(), block.offset, block.length, staged_file(file.id));
}

Result<void> Stage::take_range_block(OpenFile& file, const BlockMessage& block) {
  StagedRange range{.kind = RangeKind::kHole, .length = block.length};
  if (!block.hole && block.length <= kMaxInlineBytes && inline_bytes_ < kMaxInlineTotal) {
    range.kind = RangeKind::kInline;
    range.bytes = block.bytes;
    inline_bytes_ += block.length;
  } else if (!block.hole) {
    range.kind = RangeKind::kFile;
    EPOCHFS_DO(write(file, block));
  }
  return index_.put_range(file.id, block.offset, range);
}

Result<void> Stage::write(OpenFile& file, const BlockMessage& block) {
  EPOCHFS_DO(open_for_writing(file));
  files_changed_ = true;
  write_back_.staged(block.length);
  return pwrite_full(file.fd.get(), block.bytes.data(), block.bytes.size(), block.offset,
                     staged_file(file.id));
}

// ---- files ----

// Null: it has no content that blocks could belong to.
Result<Stage::OpenFile*> Stage::open_file(FileId id) {
  if (auto at = open_by_id_.find(id); at != open_by_id_.end()) {
    open_.splice(open_.begin(), open_, at->second);
    return &*at->second;
  }
  EPOCHFS_TRY(auto node, index_.staged(id));
  if (!node || !current(*node) || node->content == Content::kNone) return nullptr;
  if (open_.size() >= kMaxOpenFiles) EPOCHFS_DO(close_file(std::prev(open_.end())));
  open_.push_front({.id = id, .node = std::move(*node)});
  open_by_id_[id] = open_.begin();
  return &open_.front();
}

Result<void> Stage::open_for_writing(OpenFile& file) {
  if (file.fd) return {};
  if (file.node.incoming && file.node.received == 0 && file.node.trusted_end == UINT64_MAX) {
    return make_incoming(file);
  }
  int dir = file.node.incoming ? folders_.incoming.get() : folders_.extents.get();
  file.fd = UniqueFd(::openat(dir, stage_name(file.id).c_str(),
                              O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.fd) return fail_errno("open " + staged_file(file.id));
  return {};
}

// Makes the file, of whatever type, without attributes.
Result<void> Stage::make_incoming(OpenFile& file) {
  const int dir = folders_.incoming.get();
  const std::string name = stage_name(file.id);
  const FixedAttributes& a = file.node.attributes;
  for (bool again = true;; again = false) {
    int code = 0;
    if (journal::is_regular(a.mode)) {
      file.fd.reset(::openat(dir, name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                             a.mode & 0777));  // nobody can reach it; saves a chmod mostly
      code = file.fd ? 0 : errno;
    } else if (S_ISLNK(a.mode)) {
      code = ::symlinkat(file.node.symlink_target.c_str(), dir, name.c_str()) == 0 ? 0 : errno;
    } else {
      dev_t device = makedev(unsigned(a.rdev >> 32), unsigned(a.rdev));
      code = ::mknodat(dir, name.c_str(), (a.mode & S_IFMT) | 0600, device) == 0 ? 0 : errno;
    }
    if (code == 0) break;
    if (code != EEXIST || !again) return fail("make " + staged_file(file.id), code);
    EPOCHFS_DO(remove_staged_file(dir, file.id));  // left over, and not accounted for
  }
  files_changed_ = true;
  return {};
}

// Gives the file its size and attributes; from now on it only has to be named.
Result<void> Stage::finish_file(OpenFile& file) {
  StagedNode& node = file.node;
  const std::string what = staged_file(file.id);
  if (journal::is_regular(node.attributes.mode)) {
    EPOCHFS_DO(open_for_writing(file));
    struct stat s;
    if (::fstat(file.fd.get(), &s) != 0) return fail_errno("stat " + what);
    if (uint64_t(s.st_size) != node.attributes.size &&
        ::ftruncate(file.fd.get(), off_t(node.attributes.size)) != 0) {
      return fail_errno("set size of " + what);
    }
  } else {
    EPOCHFS_DO(make_incoming(file));
    file.fd = UniqueFd(::openat(folders_.incoming.get(), stage_name(file.id).c_str(),
                                O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!file.fd) return fail_errno("open " + what);
  }
  EPOCHFS_TRY(auto applied, apply_metadata(file.fd.get(), node, what));
  files_changed_ = true;
  node.target_inode = applied.target_inode;
  node.target_mtime = applied.target_mtime;
  node.received = node.attributes.size;
  node.trusted_end = UINT64_MAX;
  node.finished = true;
  file.changed = false;
  return index_.put_staged(file.id, node);
}

Result<void> Stage::flush(OpenFile& file) {
  if (!file.changed) return {};
  file.changed = false;
  return index_.put_staged(file.id, file.node);
}

Result<void> Stage::close_file(OpenFiles::iterator file) {
  auto done = flush(*file);
  open_by_id_.erase(file->id);
  open_.erase(file);
  return done;
}

Result<void> Stage::close_all() {
  while (!open_.empty()) EPOCHFS_DO(close_file(open_.begin()));
  return {};
}

Result<void> Stage::finish() {
  EPOCHFS_DO(close_all());
  return index_.for_each_staged([&](FileId id, StagedNode& node) -> Result<void> {
    if (!current(node) || !node.incoming || node.finished) return {};
    OpenFile file{.id = id, .node = std::move(node)};
    return finish_file(file);
  });
}

// ---- durability ----

Result<void> Stage::sync() {
  if (!files_changed_) return {};
  EPOCHFS_DO(storage_.sync_filesystem("target: staged files", folders_.incoming.get(),
                                      "the target's stage"));
  files_changed_ = false;
  return {};
}

Result<void> Stage::checkpoint() {
  for (OpenFile& file : open_) EPOCHFS_DO(flush(file));
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
