#include "replicator/target/directory/content.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "journal/base/unix.h"

namespace epochfs::replicator {
namespace {

constexpr uint64_t kCopyBytes = 1 << 20;
// Below this size, sharing storage costs the file system more than copying.
constexpr uint64_t kMinCloneBytes = 128 << 10;
constexpr uint64_t kCloneAlignment = 64 << 10;  // a multiple of every block size

Result<void> write_zeros(int fd, uint64_t offset, uint64_t length, std::string_view what) {
  struct stat s;
  if (::fstat(fd, &s) != 0) return fail_errno(fmt::format("stat {}", what));
  // Beyond the end it reads as zeros already.
  const uint64_t end = std::min(offset + length, uint64_t(s.st_size));
  const std::string zeros(size_t(std::min(kCopyBytes, length)), '\0');
  for (; offset < end; offset += zeros.size()) {
    EPOCHFS_DO(pwrite_full(fd, zeros.data(), std::min<uint64_t>(zeros.size(), end - offset), offset,
                           what));
  }
  return {};
}

// Copies ranges of one file.
class Copy {
 public:
  Copy(int from, int to, std::string_view what) : from_(from), to_(to), what_(what) {}

  Result<void> range(uint64_t begin, uint64_t end) {
    const uint64_t inner_begin = (begin + kCloneAlignment - 1) / kCloneAlignment * kCloneAlignment;
    const uint64_t inner_end = end / kCloneAlignment * kCloneAlignment;
    if (!can_clone_ || inner_end < inner_begin + kMinCloneBytes || !clone(inner_begin, inner_end)) {
      return copy(begin, end);
    }
    EPOCHFS_DO(copy(begin, inner_begin));
    return copy(inner_end, end);
  }

 private:
  bool clone(uint64_t begin, uint64_t end) {
    file_clone_range r = {from_, begin, end - begin, begin};
    can_clone_ = ::ioctl(to_, FICLONERANGE, &r) == 0;
    return can_clone_;
  }

  Result<void> copy(uint64_t begin, uint64_t end) {
    if (begin < end) buffer_.resize(size_t(std::min(kCopyBytes, end - begin)));
    while (begin < end) {
      const size_t wanted = size_t(std::min<uint64_t>(buffer_.size(), end - begin));
      EPOCHFS_TRY(size_t size, pread_full(from_, buffer_.data(), wanted, begin, "staged bytes"));
      if (size != wanted) return fail(fmt::format("read staged bytes of {}: they are gone", what_));
      EPOCHFS_DO(pwrite_full(to_, buffer_.data(), size, begin, what_));
      begin += size;
    }
    return {};
  }

  int from_, to_;
  std::string_view what_;
  bool can_clone_ = true;
  std::string buffer_;
};

}  // namespace

Result<void> clear_range(int fd, uint64_t offset, uint64_t length, std::string_view what) {
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(offset), off_t(length)) ==
      0) {
    return {};
  }
  if (errno != EOPNOTSUPP && errno != ENOSYS)
    return fail_errno(fmt::format("punch a hole in {}", what));
  return write_zeros(fd, offset, length, what);
}

Result<void> apply_ranges(Index& index, int extents, FileId id, int fd, uint64_t size,
                          std::string_view what) {
  UniqueFd source;
  std::optional<Copy> copy;
  ByteRange pending;  // adjacent ranges in extents/ are copied at once
  auto flush = [&]() -> Result<void> {
    if (pending.empty()) return {};
    if (!source) {
      source =
          UniqueFd(::openat(extents, stage_name(id).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
      if (!source) return fail_errno(fmt::format("open staged bytes of {}", what));
      copy.emplace(source.get(), fd, what);
    }
    ByteRange r = std::exchange(pending, {});
    return copy->range(r.begin, r.end);
  };
  EPOCHFS_DO(index.for_each_range(id, [&](uint64_t offset, const StagedRange& r) -> Result<void> {
    const uint64_t end = offset + r.length;
    if (r.kind == RangeKind::kFile && pending.end == offset && !pending.empty()) {
      pending.end = end;
      return {};
    }
    EPOCHFS_DO(flush());
    switch (r.kind) {
      case RangeKind::kInline: return pwrite_full(fd, r.bytes.data(), r.bytes.size(), offset, what);
      case RangeKind::kHole: return clear_range(fd, offset, r.length, what);
      case RangeKind::kFile: pending = {offset, end};
    }
    return {};
  }));
  EPOCHFS_DO(flush());
  if (::ftruncate(fd, off_t(size)) != 0) return fail_errno(fmt::format("set size of {}", what));
  return {};
}

}  // namespace epochfs::replicator
