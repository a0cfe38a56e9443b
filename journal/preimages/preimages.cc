#include "journal/preimages/preimages.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace epochfs::journal {
namespace {

// The first page of a log, shared by both sides.
struct SharedHeader {
  char magic[8];
  uint32_t version;
  std::atomic<uint32_t> given_up;
  std::atomic<uint64_t> tail;  // entries before it are complete
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

enum Kind : uint32_t { kAttributes = 1, kData = 2, kHole = 3, kClone = 4 };

// Each entry begins with this. The payload follows, padded to eight bytes. The payload of a clone
// begins at the next block; payload_bytes and checksum are zero then.
struct EntryHeader {
  uint32_t kind;
  uint32_t payload_bytes;
  uint64_t inode, birth_ns;
  uint64_t offset, length;
  uint64_t checksum;  // of the payload, seeded with the offset
};
static_assert(sizeof(EntryHeader) == kPreImageEntryHeaderBytes);

constexpr uint64_t aligned(uint64_t n) { return (n + 7) & ~uint64_t{7}; }
constexpr uint64_t next_block(uint64_t n) {
  return (n + kCloneAlignment - 1) & ~(kCloneAlignment - 1);
}

Result<void*> map_header(int fd, int protection) {
  void* map = ::mmap(nullptr, kPreImageHeaderBytes, protection, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return fail_errno("map pre-image log");
  return map;
}

}  // namespace

struct PreImageWriter::Header : SharedHeader {};
struct PreImageReader::Header : SharedHeader {};

Result<std::unique_ptr<PreImageWriter>> PreImageWriter::create(int dir, const std::string& name) {
  std::unique_ptr<PreImageWriter> self(new PreImageWriter);
  self->fd_.reset(::openat(dir, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!self->fd_) return fail_errno("create pre-image log " + name);
  // Its users have it open. Nothing is left behind after a crash.
  if (::unlinkat(dir, name.c_str(), 0) != 0) return fail_errno("unlink pre-image log " + name);
  if (int code = ::posix_fallocate(self->fd_.get(), 0, kPreImageHeaderBytes)) {
    return fail("allocate pre-image log " + name, code);
  }
  EPOCHFS_TRY(void* map, map_header(self->fd_.get(), PROT_READ | PROT_WRITE));
  self->header_ = static_cast<Header*>(map);
  set_magic(self->header_->magic, kPreImageMagic);
  self->header_->version = kPreImageFormatVersion;
  Lock lock(self->mutex_);
  self->end_ = kPreImageHeaderBytes;
  self->header_->tail.store(self->end_, std::memory_order_release);
  return self;
}

PreImageWriter::~PreImageWriter() {
  if (!header_) return;
  // A reader that is left can rely on nothing that it reads from here on.
  header_->given_up.store(1, std::memory_order_release);
  ::munmap(header_, kPreImageHeaderBytes);
}

void PreImageWriter::append(uint32_t kind, const FileId& file, uint64_t offset, uint64_t length,
                            std::string_view payload) {
  EntryHeader h{kind,
                static_cast<uint32_t>(payload.size()),
                file.inode,
                file.birth_ns,
                offset,
                length,
                XXH3_64bits_withSeed(payload.data(), payload.size(), offset)};
  Lock lock(mutex_);
  if (given_up()) return;
  auto written = pwrite_full(fd_.get(), &h, sizeof h, end_, "pre-image log");
  if (written && !payload.empty()) {
    written =
        pwrite_full(fd_.get(), payload.data(), payload.size(), end_ + sizeof h, "pre-image log");
  }
  if (!written) return give_up_locked();
  end_ += sizeof h + aligned(payload.size());
  header_->tail.store(end_, std::memory_order_release);
}

void PreImageWriter::publish_attributes(const FileId& file, std::string_view attributes) {
  if (attributes.size() > kMaxAttributesBytes) return give_up();
  append(kAttributes, file, 0, 0, attributes);
}

void PreImageWriter::publish_data(const FileId& file, uint64_t offset, std::string_view bytes) {
  for (size_t at = 0; at < bytes.size(); at += kMaxPreImageBytes) {
    std::string_view part = bytes.substr(at, kMaxPreImageBytes);
    append(kData, file, offset + at, part.size(), part);
  }
}

bool PreImageWriter::publish_clone(const FileId& file, int fd, ByteRange range) {
  EPOCHFS_CHECK(range.begin % kCloneAlignment == 0 && range.end % kCloneAlignment == 0);
  Lock lock(mutex_);
  if (given_up()) return true;
  const EntryHeader h{kClone, 0, file.inode, file.birth_ns, range.begin, range.length(), 0};
  const uint64_t payload = next_block(end_ + sizeof h);
  const file_clone_range clone{.src_fd = fd,
                               .src_offset = range.begin,
                               .src_length = range.length(),
                               .dest_offset = payload};
  if (::ioctl(fd_.get(), FICLONERANGE, &clone) != 0) {
    if (errno != ENOSPC && errno != EINTR) can_clone_.store(false, std::memory_order_relaxed);
    return false;
  }
  if (!pwrite_full(fd_.get(), &h, sizeof h, end_, "pre-image log")) {
    give_up_locked();
    return true;
  }
  end_ = payload + range.length();
  header_->tail.store(end_, std::memory_order_release);
  return true;
}

void PreImageWriter::publish_hole(const FileId& file, ByteRange range) {
  if (!range.empty()) append(kHole, file, range.begin, range.length(), {});
}

void PreImageWriter::give_up() {
  Lock lock(mutex_);
  give_up_locked();
}

// Nothing is appended afterwards, so no reader meets zeros where an entry was expected.
void PreImageWriter::give_up_locked() {
  header_->given_up.store(1, std::memory_order_release);
  // The first page is mapped, so it stays. A reader in the middle of the rest finds the file too
  // short, and the flag set.
  (void)::ftruncate(fd_.get(), kPreImageHeaderBytes);
}

bool PreImageWriter::given_up() const {
  return header_->given_up.load(std::memory_order_acquire) != 0;
}

uint64_t PreImageWriter::bytes() const {
  return header_->tail.load(std::memory_order_relaxed) - kPreImageHeaderBytes;
}

Result<std::unique_ptr<PreImageReader>> PreImageReader::open(UniqueFd fd) {
  std::unique_ptr<PreImageReader> self(new PreImageReader);
  EPOCHFS_TRY(void* map, map_header(fd.get(), PROT_READ));
  self->header_ = static_cast<Header*>(map);
  self->fd_ = std::move(fd);
  self->consumed_ = kPreImageHeaderBytes;
  if (!has_magic(self->header_->magic, kPreImageMagic) || self->header_->version == 0 ||
      self->header_->version > kPreImageFormatVersion) {
    return fail("read pre-image log: unknown format", 0, ExitStatus::kCorrupt);
  }
  return self;
}

PreImageReader::~PreImageReader() {
  if (header_) ::munmap(header_, kPreImageHeaderBytes);
}

bool PreImageReader::given_up() const {
  return header_->given_up.load(std::memory_order_acquire) != 0;
}

// The error for a log that is shorter than it was: given up by its writer, or damaged.
tl::unexpected<Error> PreImageReader::cut_short() const {
  if (given_up()) return fail("read epoch: its pre-images were given up; it is merged forward");
  return fail("read pre-image log: damaged entry", 0, ExitStatus::kCorrupt);
}

Result<void> PreImageReader::refresh() {
  const uint64_t tail = header_->tail.load(std::memory_order_acquire);
  while (consumed_ < tail) {
    EntryHeader h;
    EPOCHFS_TRY(size_t size, pread_full(fd_.get(), &h, sizeof h, consumed_, "pre-image log"));
    const uint64_t payload =
        h.kind == kClone ? next_block(consumed_ + sizeof h) : consumed_ + sizeof h;
    const uint64_t bytes_there = h.kind == kClone ? h.length : h.payload_bytes;
    if (size != sizeof h || h.payload_bytes > kMaxAttributesBytes || payload > tail ||
        bytes_there > tail - payload || h.length > UINT64_MAX - h.offset ||
        (h.kind == kData && h.length != h.payload_bytes)) {
      return cut_short();
    }
    File& file = files_[FileId{h.inode, h.birth_ns}];
    if (h.kind == kAttributes) {
      std::string bytes(h.payload_bytes, '\0');
      EPOCHFS_TRY(size,
                  pread_full(fd_.get(), bytes.data(), bytes.size(), payload, "pre-image log"));
      if (XXH3_64bits_withSeed(bytes.data(), size, h.offset) != h.checksum) {
        return cut_short();
      }
      if (!file.attributes) file.attributes = std::move(bytes);
    } else if (h.kind == kData || h.kind == kHole || h.kind == kClone) {
      file.extents[h.offset] = {h.offset + h.length, h.kind == kHole ? 0 : payload};
      file.saved.add({h.offset, h.offset + h.length});
      if (h.kind == kHole) file.holes.add({h.offset, h.offset + h.length});
    }
    consumed_ = payload + aligned(bytes_there);
  }
  return {};
}

const std::string* PreImageReader::attributes(const FileId& id) const {
  auto file = files_.find(id);
  return file != files_.end() && file->second.attributes ? &*file->second.attributes : nullptr;
}

const ByteRanges* PreImageReader::saved(const FileId& id) const {
  auto file = files_.find(id);
  return file != files_.end() ? &file->second.saved : nullptr;
}

const ByteRanges* PreImageReader::holes(const FileId& id) const {
  auto file = files_.find(id);
  return file != files_.end() ? &file->second.holes : nullptr;
}

Result<void> PreImageReader::overlay(const FileId& id, uint64_t offset, char* data, size_t size) {
  auto file = files_.find(id);
  if (file == files_.end()) return {};
  const auto& extents = file->second.extents;
  const uint64_t end = offset + size;
  auto at = extents.upper_bound(offset);
  if (at != extents.begin()) --at;
  for (; at != extents.end() && at->first < end; ++at) {
    uint64_t from = std::max(at->first, offset), to = std::min(at->second.end, end);
    if (from >= to) continue;
    char* into = data + (from - offset);
    if (at->second.position == 0) {
      std::memset(into, 0, to - from);
      continue;
    }
    EPOCHFS_TRY(size_t got, pread_full(fd_.get(), into, to - from,
                                       at->second.position + (from - at->first), "pre-image log"));
    if (got != to - from) return cut_short();
  }
  return {};
}

}  // namespace epochfs::journal
