#include "replicator/source/reading/epoch_reader.h"

#include <capnp/serialize.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>

namespace epochfs::replicator {
namespace {

std::string named(const FileId& id) { return fmt::format("inode {}", id.inode); }

// Copies the attributes that a pre-image holds.
Result<void> take_saved(const std::string& bytes, rpc::Attributes::Builder out) {
  if (bytes.size() % sizeof(capnp::word) != 0) {
    return fail("read pre-image: attributes are damaged", 0, ExitStatus::kCorrupt);
  }
  // The bytes may be unaligned; the message needs aligned words.
  auto words = kj::heapArray<capnp::word>(bytes.size() / sizeof(capnp::word));
  std::memcpy(words.begin(), bytes.data(), bytes.size());
  capnp::FlatArrayMessageReader message(words);
  auto saved = message.getRoot<rpc::Attributes>();
  out.setMode(saved.getMode());
  out.setUid(saved.getUid());
  out.setGid(saved.getGid());
  out.setRdev(saved.getRdev());
  out.setLinks(saved.getLinks());
  out.setSize(saved.getSize());
  out.setAtime(saved.getAtime());
  out.setMtime(saved.getMtime());
  out.setCtime(saved.getCtime());
  out.setXattrs(saved.getXattrs());
  out.setSymlinkTarget(saved.getSymlinkTarget());
  return {};
}

// Calls f for the parts of `range`, in ascending order: data, and the holes between.
void tell(const journal::ByteRanges& data, ByteRange range,
          const std::function<void(ByteRange, bool)>& f) {
  uint64_t at = range.begin;
  data.within(range).for_each([&](ByteRange r) {
    if (at < r.begin) f({at, r.begin}, true);
    f(r, false);
    at = r.end;
  });
  if (at < range.end) f({at, range.end}, true);
}

}  // namespace

Result<SourceFilePtr> EpochReader::open(const FileId& id, const FileHandle& handle,
                                        rpc::Attributes::Builder attributes) {
  int opened = open_handle(backing_dir_, handle, O_PATH | O_NOFOLLOW);
  const bool gone = opened == -ESTALE || opened == -ENOENT;
  if (opened < 0 && !gone) return fail("open " + named(id), -opened);
  UniqueFd path(opened);
  if (!gone) EPOCHFS_DO(journal::capture_attributes(path.get(), attributes));
  // Only now: the mount publishes a pre-image before it overwrites or removes what is saved.
  const std::string* saved = nullptr;
  if (preimages_) {
    EPOCHFS_DO(preimages_->refresh());
    saved = preimages_->attributes(id);
  }
  if (saved) EPOCHFS_DO(take_saved(*saved, attributes));
  if (gone && !saved) return SourceFilePtr();
  auto file = std::make_shared<SourceFile>();
  file->id = id;
  file->mode = attributes.getMode();
  file->size = attributes.getSize();
  file->links = attributes.getLinks();
  // It is only open, or about to get its first name. No target should have it.
  if (file->links == 0) return SourceFilePtr();
  if (!journal::is_regular(file->mode) || file->size == 0 || gone) return file;
  opened = open_handle(backing_dir_, handle, O_RDONLY | O_NOATIME | O_NOFOLLOW);
  if (opened < 0) return fail("open " + named(id), -opened);
  file->fd.reset(opened);
  struct stat st;
  if (::fstat(opened, &st) != 0) return fail_errno("stat " + named(id));
  // Enough blocks are no proof: blocks of xattrs and blocks beyond the end count too.
  file->dense = uint64_t(st.st_blocks) * 512 >= uint64_t(st.st_size) &&
                uint64_t(st.st_size) >= file->size && ::lseek(opened, 0, SEEK_HOLE) >= st.st_size;
  return file;
}

Result<void> EpochReader::map(const SourceFile& file, ByteRange range,
                              const std::function<void(ByteRange, bool)>& f) {
  range.end = std::min(range.end, file.size);
  if (range.empty()) return {};
  if (!file.fd) return map_saved(file, range, f);
  const bool had_holes = preimages_ && preimages_->holes(file.id);
  if (file.dense && !had_holes) {
    f(range, false);
    return {};
  }
  journal::ByteRanges data;
  for (uint64_t at = range.begin; at < range.end;) {
    off_t begin = ::lseek(file.fd.get(), off_t(at), SEEK_DATA);
    if (begin < 0 && errno == ENXIO) break;  // a hole up to the end
    if (begin < 0) return fail_errno("seek data of " + named(file.id));
    off_t end = ::lseek(file.fd.get(), begin, SEEK_HOLE);
    if (end < 0 && errno != ENXIO) return fail_errno("seek hole of " + named(file.id));
    if (end <= begin) end = begin + 1;  // truncated meanwhile; its pre-image covers that
    data.add({std::max(uint64_t(begin), range.begin), std::min(uint64_t(end), range.end)});
    at = uint64_t(end);
  }
  if (preimages_) {
    EPOCHFS_DO(preimages_->refresh());
    if (auto saved = preimages_->saved(file.id)) data.add(saved->within(range));
    if (auto holes = preimages_->holes(file.id)) data.subtract(*holes);
  }
  tell(data, range, f);
  return {};
}

Result<void> EpochReader::map_saved(const SourceFile& file, ByteRange range,
                                    const std::function<void(ByteRange, bool)>& f) {
  EPOCHFS_DO(preimages_->refresh());
  const journal::ByteRanges* saved = preimages_->saved(file.id);
  if (!saved || saved->within(range).bytes() != range.length()) {
    return fail("read " + named(file.id) + ": it has gone, and not all of it was saved");
  }
  journal::ByteRanges data = saved->within(range);
  if (auto holes = preimages_->holes(file.id)) data.subtract(*holes);
  tell(data, range, f);
  return {};
}

}  // namespace epochfs::replicator
