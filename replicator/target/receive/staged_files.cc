#include "replicator/target/receive/staged_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "journal/preimages/attributes.h"
#include "replicator/target/directory/beneath.h"
#include "replicator/target/directory/content.h"
#include "replicator/target/directory/metadata.h"

namespace epochfs::replicator {
namespace {

constexpr size_t kMaxOpenFiles = 32;
constexpr size_t kMaxInlineBytes = 16 << 10;   // of one block that goes into the index
constexpr uint64_t kMaxInlineTotal = 8 << 20;  // of one transfer

std::string staged_file(FileId id) { return "staged " + inode_text(id); }

Result<void> remove_staged_file(int dir, FileId id) {
  if (::unlinkat(dir, stage_name(id).c_str(), 0) != 0 && errno != ENOENT) {
    return fail_errno("remove " + staged_file(id));
  }
  return {};
}

}  // namespace

StagedFiles::StagedFiles(Storage& storage, Index& index, const Folders& folders)
    : storage_(storage), index_(index), folders_(folders), write_back_(folders.incoming.get()) {}

StagedFiles::~StagedFiles() = default;

// ---- the folders ----

Result<void> StagedFiles::sweep() {
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
  return sweep_folder(folders_.extents.get(), Content::kRanges);
}

Result<void> StagedFiles::remove_all() {
  EPOCHFS_DO(empty_directory(folders_.incoming.get(), "the target's stage"));
  return empty_directory(folders_.extents.get(), "the target's stage");
}

Result<bool> StagedFiles::has_incoming(FileId id, std::optional<uint64_t> cut_at) {
  UniqueFd fd(::openat(folders_.incoming.get(), stage_name(id).c_str(),
                       (cut_at ? O_WRONLY : O_PATH) | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno == ENOENT) return false;
  if (!fd) return fail_errno("open " + staged_file(id));
  if (!cut_at) return true;
  if (::ftruncate(fd.get(), off_t(*cut_at)) != 0) return fail_errno("truncate " + staged_file(id));
  files_changed_ = true;
  return true;
}

Result<void> StagedFiles::drop(FileId id, const StagedNode& node) {
  if (node.incoming) EPOCHFS_DO(remove_staged_file(folders_.incoming.get(), id));
  if (node.content != Content::kRanges) return {};
  EPOCHFS_DO(index_.remove_ranges(id));
  return remove_staged_file(folders_.extents.get(), id);
}

// ---- blocks ----

Result<void> StagedFiles::take(const std::vector<BlockMessage>& blocks) {
  EPOCHFS_DO(check_blocks(blocks));
  for (const BlockMessage& block : blocks) {
    EPOCHFS_TRY(OpenFile * file, open_file(block.id));
    if (!file) continue;  // nothing of it is needed
    EPOCHFS_DO(take_block(*file, block));
    if (!block.hole) bytes_ += block.length;
    const bool done =
        file->node.incoming && file->node.trusted_end == UINT64_MAX && file->node.is_complete();
    if (done) {
      auto at = open_by_id_.at(block.id);
      EPOCHFS_DO(complete(*at));
      EPOCHFS_DO(close(at));
    }
  }
  return {};
}

// Refuses a call with any block that cannot be taken, before the first is.
Result<void> StagedFiles::check_blocks(const std::vector<BlockMessage>& blocks) {
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
    const bool announced = head.generation && index_.is_current(head) &&
                           (head.content != Content::kNone || end <= head.floor);
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

Result<void> StagedFiles::take_block(OpenFile& file, BlockMessage block) {
  // Blocks from before an interruption may come again.
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

Result<void> StagedFiles::take_whole_block(OpenFile& file, const BlockMessage& block) {
  file.node.finished = false;
  if (!block.hole) return write(file, block);
  // A file that is written once has a hole there already; only a patch has to clear it.
  if (file.node.trusted_end == UINT64_MAX) return {};
  EPOCHFS_DO(open_for_writing(file));
  files_changed_ = true;
  return clear_range(file.fd.get(), block.offset, block.length, staged_file(file.id));
}

Result<void> StagedFiles::take_range_block(OpenFile& file, const BlockMessage& block) {
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

Result<void> StagedFiles::write(OpenFile& file, const BlockMessage& block) {
  EPOCHFS_DO(open_for_writing(file));
  files_changed_ = true;
  write_back_.staged(block.length);
  return pwrite_full(file.fd.get(), block.bytes.data(), block.bytes.size(), block.offset,
                     staged_file(file.id));
}

// ---- files ----

// Null: the file needs no blocks.
Result<StagedFiles::OpenFile*> StagedFiles::open_file(FileId id) {
  if (auto at = open_by_id_.find(id); at != open_by_id_.end()) {
    open_.splice(open_.begin(), open_, at->second);
    return &*at->second;
  }
  EPOCHFS_TRY(auto node, index_.staged(id));
  if (!node || !index_.is_current(*node) || node->content == Content::kNone) return nullptr;
  if (open_.size() >= kMaxOpenFiles) EPOCHFS_DO(close(std::prev(open_.end())));
  open_.push_front({.id = id, .node = std::move(*node)});
  open_by_id_[id] = open_.begin();
  return &open_.front();
}

Result<void> StagedFiles::open_for_writing(OpenFile& file) {
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

// Makes the file, of any type, without attributes.
Result<void> StagedFiles::make_incoming(OpenFile& file) {
  const int dir = folders_.incoming.get();
  const std::string name = stage_name(file.id);
  const FixedAttributes& a = file.node.attributes;
  for (bool again = true;; again = false) {
    int code = 0;
    if (journal::is_regular(a.mode)) {
      file.fd.reset(::openat(dir, name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                             a.mode & 0777));  // others cannot reach it; mostly saves a chmod
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

// Gives the file its size and attributes. From then on it only has to be named.
Result<void> StagedFiles::complete(OpenFile& file) {
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

Result<void> StagedFiles::note(OpenFile& file) {
  if (!file.changed) return {};
  file.changed = false;
  return index_.put_staged(file.id, file.node);
}

Result<void> StagedFiles::close(OpenFiles::iterator file) {
  auto done = note(*file);
  open_by_id_.erase(file->id);
  open_.erase(file);
  return done;
}

Result<void> StagedFiles::close_all() {
  while (!open_.empty()) EPOCHFS_DO(close(open_.begin()));
  return {};
}

// ---- the whole stage ----

void StagedFiles::begin() { inline_bytes_ = 0; }

void StagedFiles::reset() {
  open_.clear();
  open_by_id_.clear();
  files_changed_ = false;
}

Result<void> StagedFiles::close(FileId id) {
  auto at = open_by_id_.find(id);
  return at == open_by_id_.end() ? Result<void>{} : close(at->second);
}

Result<void> StagedFiles::complete(FileId id, StagedNode node) {
  OpenFile file{.id = id, .node = std::move(node)};
  return complete(file);
}

Result<void> StagedFiles::complete_all() {
  EPOCHFS_DO(close_all());
  return index_.for_each_staged([&](FileId id, StagedNode& node) -> Result<void> {
    if (!index_.is_current(node) || !node.incoming || node.finished) return {};
    return complete(id, std::move(node));
  });
}

Result<void> StagedFiles::note_all() {
  for (OpenFile& file : open_) EPOCHFS_DO(note(file));
  return {};
}

Result<void> StagedFiles::sync() {
  if (!files_changed_) return {};
  EPOCHFS_DO(storage_.sync_filesystem("target: staged files", folders_.incoming.get(),
                                      "the target's stage"));
  files_changed_ = false;
  return {};
}

}  // namespace epochfs::replicator
