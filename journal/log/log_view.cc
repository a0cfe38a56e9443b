#include "journal/log/log_view.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "journal/base/directory.h"
#include "journal/base/regular_file.h"
#include "journal/base/unix.h"
#include "journal/volume/epochs.h"

namespace epochfs::journal {

LogView::Mapping::~Mapping() {
  if (size_) ::munmap(const_cast<std::byte*>(data_), size_);
}

size_t next_valid_record(std::span<const std::byte> segment, uint64_t base, size_t at) {
  for (; at + kRecordHeaderBytes <= segment.size(); at += kRecordAlignment) {
    uint32_t length;
    std::memcpy(&length, segment.data() + at, sizeof length);
    if (length == 0) continue;
    RecordHead head;
    if (decode_head(segment.subspan(at), Lsn{base + at}, head) == DecodeError::kNone) return at;
  }
  return segment.size();
}

Result<LogView> LogView::open(const Volume& volume, std::map<uint64_t, Error>* broken, Left left) {
  LogView view(volume);
  EPOCHFS_DO(view.refresh(broken));
  view.left_ = left;
  if (left == Left::kClean) view.settled_ = Lsn{UINT64_MAX};
  return view;
}

Result<std::unique_ptr<LogView::Mapping>> LogView::map(int dir, const std::string& name,
                                                       uint64_t limit) {
  auto file = open_regular(dir, name);
  if (!file && file.error().code == ENOENT)
    return std::unique_ptr<Mapping>();  // released meanwhile
  EPOCHFS_TRY(UniqueFd fd, std::move(file));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return fail_errno("stat segment " + name);
  if (st.st_size == 0) return std::make_unique<Mapping>(nullptr, 0);
  const auto size = std::min<size_t>(size_t(st.st_size), limit);
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) return fail_errno("map segment " + name);
  return std::make_unique<Mapping>(static_cast<const std::byte*>(at), size);
}

Result<void> LogView::refresh(std::map<uint64_t, Error>* broken) {
  // This is read before the segments: what is sealed now is complete in them. If the manifest
  // cannot be read, all damage is reported.
  auto newest = read_last_epoch(volume_->dir());
  settled_ = !newest ? Lsn{UINT64_MAX} : *newest ? (*newest)->seal : Lsn{0};
  sealed_ = newest && *newest ? std::optional((*newest)->seal) : std::nullopt;
  left_ = Left::kLive;
  auto folder = open_directory(volume_->dir(), kSegmentsDir);
  const bool none = !folder && folder.error().code == ENOENT;  // as if it were empty
  if (!folder && !none) return tl::unexpected(folder.error());
  std::map<uint64_t, std::string> names;
  if (!none) {
    EPOCHFS_TRY(names, list_segments(volume_->dir()));
  }
  std::erase_if(segments_, [&](const Segment& s) { return !names.count(s.index); });
  std::erase_if(mappings_, [&](const auto& entry) { return !names.count(entry.first); });
  for (const auto& [index, name] : names) {
    if (mappings_.count(index)) continue;
    auto mapping = map(folder->get(), name, volume_->info().segment_bytes);
    if (!mapping && mapping.error().status != ExitStatus::kCorrupt) {
      return tl::unexpected(mapping.error());
    }
    if (mapping && !*mapping) continue;
    auto added = mapping ? add(index, name, *std::move(mapping))
                         : Result<void>(tl::unexpected(mapping.error()));
    if (added) continue;
    if (!broken) return added;
    broken->emplace(index, added.error());
  }
  for (Segment& s : segments_) {
    if (!s.any) find_first(s);
  }
  return {};
}

void LogView::find_first(Segment& s) {
  // A segment that was prepared ahead is all zeros and need not be read to its end.
  const bool zeros =
      decode(s.bytes.subspan(kSegmentHeaderBytes), s.begin()).error == DecodeError::kEndOfLog;
  scan(
      s, s.begin(),
      [&](const RecordView& view) {
        s.first = view.head;
        s.any = view.head.type != RecordType::kPadding;
        return !s.any;
      },
      nullptr, zeros ? kTailReach : SIZE_MAX);
}

Result<void> LogView::add(uint64_t index, const std::string& name,
                          std::unique_ptr<Mapping> mapping) {
  const uint64_t size = volume_->info().segment_bytes;
  EPOCHFS_DO(check_segment_number(index, size, name));
  auto bytes = mapping->bytes();
  // It was prepared ahead and has no header yet: the next refresh() looks again.
  if (bytes.size() < kSegmentHeaderBytes || bytes[0] == std::byte{0}) return {};
  EPOCHFS_DO(check_segment_header(bytes, volume_->info().lineage, index, size, name));
  Segment s;
  s.index = index;
  s.name = name;
  s.bytes = bytes.first(std::min<size_t>(bytes.size(), size));
  s.base = index * size;
  auto after = std::upper_bound(segments_.begin(), segments_.end(), index,
                                [](uint64_t i, const Segment& other) { return i < other.index; });
  segments_.insert(after, s);
  mappings_[index] = std::move(mapping);
  return {};
}

const LogView::Segment* LogView::segment_of(Lsn at) const {
  auto after = std::upper_bound(segments_.begin(), segments_.end(), value(at),
                                [](uint64_t p, const Segment& s) { return p < s.base; });
  if (after == segments_.begin()) return nullptr;
  const Segment& s = *--after;
  return at < s.end() ? &s : nullptr;
}

Lsn LogView::oldest() const {
  return segments_.empty() ? Lsn{kSegmentHeaderBytes} : segments_.front().begin();
}

Lsn LogView::end() const {
  for (auto s = segments_.rbegin(); s != segments_.rend(); ++s) {
    bool any = false;
    const Lsn end = scan(*s, s->begin(), [&](const RecordView&) { return any = true; });
    if (any) return end;
  }
  return oldest();
}

std::optional<Damage> LogView::lost_behind_end() const {
  const Lsn at = end();
  if (sealed_ && at <= *sealed_) {
    const uint64_t seal = std::min(value(*sealed_), kPositionLimit);
    const uint64_t behind = std::max(seal + kRecordHeaderBytes, value(at));
    return Damage{at, behind - value(at), DecodeError::kMissing};
  }
  const Segment* s = left_ == Left::kClean ? segment_of(at) : nullptr;
  if (!s) return std::nullopt;
  // A mount that ends by itself leaves zeros behind its last record.
  const auto rest = s->bytes.subspan(size_t(value(std::max(at, s->begin())) - s->base));
  const auto last =
      std::find_if(rest.rbegin(), rest.rend(), [](std::byte b) { return b != std::byte{0}; });
  if (last == rest.rend()) return std::nullopt;
  RecordHead head;
  return Damage{at, uint64_t(rest.rend() - last), decode_head(rest, at, head)};
}

Decoded LogView::record_at(Lsn at) const {
  const Segment* s = segment_of(at);
  if (!s || at < s->begin() || value(at) % kRecordAlignment != 0) {
    Decoded none;
    none.error = DecodeError::kBadPosition;
    return none;
  }
  return decode(s->bytes.subspan(value(at) - s->base), at);
}

}  // namespace epochfs::journal
