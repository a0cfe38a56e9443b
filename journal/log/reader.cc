#include "journal/log/reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "journal/base/directory.h"
#include "journal/base/regular_file.h"
#include "journal/base/unix.h"
#include "journal/volume/epochs.h"

namespace epochfs::journal {
namespace {

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t reserved;
  uint8_t lineage[16];
  uint64_t index;
  uint64_t segment_bytes;
  uint64_t reserved2;
  uint64_t checksum;
};
static_assert(sizeof(Header) == kSegmentHeaderBytes);

// A segment file, mapped for reading: only the pages that are touched are read.
class MappedFile {
 public:
  // At most the first `limit` bytes of it.
  static Result<std::unique_ptr<MappedFile>> open(int dir, const std::string& name,
                                                  uint64_t limit) {
    EPOCHFS_TRY(UniqueFd fd, open_regular(dir, name));
    struct stat st;
    if (::fstat(fd.get(), &st) != 0) return fail_errno("stat segment " + name);
    std::unique_ptr<MappedFile> file(new MappedFile);
    file->size_ = std::min<size_t>(size_t(st.st_size), limit);
    if (file->size_ == 0) return file;
    void* map = ::mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (map == MAP_FAILED) return fail_errno("map segment " + name);
    file->data_ = static_cast<const std::byte*>(map);
    return file;
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The offset of the next valid record at or behind `at`; the segment's size if there is none.
size_t next_valid(std::span<const std::byte> segment, uint64_t base, size_t at) {
  for (; at + kRecordHeaderBytes <= segment.size(); at += kRecordAlignment) {
    uint32_t length;
    std::memcpy(&length, segment.data() + at, sizeof length);
    if (length == 0) continue;
    if (decode(segment.subspan(at), Lsn{base + at}).error == DecodeError::kNone) return at;
  }
  return segment.size();
}

}  // namespace

std::string segment_name(uint64_t index) { return fmt::format("{:016x}.seg", index); }

Result<std::map<uint64_t, std::string>> list_segments(int volume_dir) {
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume_dir, kSegmentsDir));
  std::map<uint64_t, std::string> out;
  EPOCHFS_DO(for_each_entry(dir.get(), kSegmentsDir, [&](const char* name) {
    uint64_t index;
    int length = 0;
    if (std::sscanf(name, "%16lx.seg%n", &index, &length) == 1 && segment_name(index) == name) {
      out[index] = name;
    }
  }));
  return out;
}

Result<void> check_segment_number(uint64_t index, uint64_t segment_bytes, const std::string& file) {
  if (index < kPositionLimit / segment_bytes) return {};
  return fail(fmt::format("read segment {}: its number is larger than any can be", file), 0,
              ExitStatus::kCorrupt);
}

void write_segment_header(std::span<std::byte> out, const Uuid& lineage, uint64_t index,
                          uint64_t segment_bytes) {
  Header h{};
  set_magic(h.magic, kSegmentMagic);
  h.version = kStateFormatVersion;
  std::memcpy(h.lineage, lineage.bytes.data(), sizeof h.lineage);
  h.index = index;
  h.segment_bytes = segment_bytes;
  h.checksum = XXH3_64bits(&h, offsetof(Header, checksum));
  // The magic comes last: a reader of a live journal that sees it finds the rest.
  const auto* bytes = reinterpret_cast<const std::byte*>(&h);
  std::copy(bytes + sizeof h.magic, bytes + sizeof h, out.begin() + sizeof h.magic);
  uint64_t magic;
  std::memcpy(&magic, h.magic, sizeof magic);
  std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(out.data()))
      .store(magic, std::memory_order_release);
}

Result<void> check_segment_header(std::span<const std::byte> in, const Uuid& lineage,
                                  uint64_t index, uint64_t segment_bytes, const std::string& file) {
  auto damaged = [&](const char* why) {
    return fail(fmt::format("read segment {}: {}", file, why), 0, ExitStatus::kCorrupt);
  };
  Header h;
  if (in.size() < sizeof h) return damaged("too short");
  std::memcpy(&h, in.data(), sizeof h);
  if (!has_magic(h.magic, kSegmentMagic)) return damaged("not a segment");
  if (h.version == 0) return damaged("no format version");
  if (h.version > kStateFormatVersion) {
    return fail(fmt::format("read segment {}: newer format version {}; use a newer epochfs", file,
                            h.version));
  }
  if (h.checksum != XXH3_64bits(&h, offsetof(Header, checksum))) return damaged("bad checksum");
  if (std::memcmp(h.lineage, lineage.bytes.data(), sizeof h.lineage) != 0) {
    return damaged("belongs to another volume");
  }
  if (h.index != index) return damaged("its number is not that of its name");
  if (h.segment_bytes != segment_bytes) return damaged("wrong segment size");
  return {};
}

void scan_segment(std::span<const std::byte> segment, uint64_t base, Lsn from,
                  const std::function<bool(const Record&)>& f, std::vector<Damage>* damage,
                  Lsn& end) {
  size_t at = kSegmentHeaderBytes;
  if (value(from) > base + at) at = size_t(value(from) - base);
  end = Lsn{base + std::min(at, segment.size())};
  while (at < segment.size()) {
    Decoded d = decode(segment.subspan(at), Lsn{base + at});
    if (d.error != DecodeError::kNone) {
      size_t next = next_valid(segment, base, at + kRecordAlignment);
      if (next == segment.size()) return;
      if (damage) damage->push_back({Lsn{base + at}, next - at, d.error});
      at = next;
      continue;
    }
    at += d.size;
    end = Lsn{base + at};
    if (!f(d.record)) return;
  }
}

JournalReader::JournalReader(const Volume& volume) : volume_(volume) {}

Result<Lsn> JournalReader::oldest() {
  EPOCHFS_TRY(auto segments, list_segments(volume_.dir()));
  if (segments.empty()) return Lsn{kSegmentHeaderBytes};
  const auto& [index, name] = *segments.begin();
  EPOCHFS_DO(check_segment_number(index, volume_.info().segment_bytes, name));
  return Lsn{index * volume_.info().segment_bytes + kSegmentHeaderBytes};
}

Result<void> JournalReader::read(Lsn from, const std::function<bool(const Record&)>& f,
                                 std::vector<Damage>* damage) {
  // This is read before the records: what is sealed now is complete in them. If the manifest
  // cannot be read, all damage is reported.
  auto newest = read_last_epoch(volume_.dir());
  const Lsn settled = !newest ? Lsn{UINT64_MAX} : *newest ? (*newest)->seal : Lsn{0};
  std::vector<Damage> found;
  EPOCHFS_TRY([[maybe_unused]] Lsn end, read_all(from, f, damage ? &found : nullptr));
  std::erase_if(found, [&](const Damage& d) { return d.at >= settled; });
  if (damage) damage->insert(damage->end(), found.begin(), found.end());
  return {};
}

Result<Lsn> JournalReader::read_all(Lsn from, const std::function<bool(const Record&)>& f,
                                    std::vector<Damage>* damage) {
  const uint64_t size = volume_.info().segment_bytes;
  EPOCHFS_TRY(auto segments, list_segments(volume_.dir()));
  EPOCHFS_TRY(UniqueFd dir, open_directory(volume_.dir(), kSegmentsDir));
  uint64_t end = value(from);  // what lies before it is accounted for
  bool stopped = false;
  for (const auto& [index, name] : segments) {
    EPOCHFS_DO(check_segment_number(index, size, name));
    const uint64_t base = index * size;
    if (base + size <= value(from)) continue;
    auto file = MappedFile::open(dir.get(), name, size);
    if (!file && file.error().code == ENOENT) {  // released meanwhile
      end = base + size;
      continue;
    }
    if (!file) return tl::unexpected(file.error());
    auto bytes = (*file)->bytes();
    // Prepared ahead, and its header is not written yet.
    if (bytes.size() < kSegmentHeaderBytes || bytes[0] == std::byte{0}) continue;
    EPOCHFS_DO(check_segment_header(bytes, volume_.info().lineage, index, size, name));
    if (end == 0) end = base;
    bool any = false;
    std::vector<Damage> inside;
    Lsn segment_end{};
    scan_segment(
        bytes.first(std::min<size_t>(bytes.size(), size)), base, from,
        [&](const Record& r) {
          // Records follow, so everything before this segment must be there.
          if (!any && damage && end < base && base - end >= kRecordHeaderBytes) {
            damage->push_back({Lsn{end}, base - end, DecodeError::kMissing});
          }
          any = true;
          stopped = !f(r);
          return !stopped;
        },
        damage ? &inside : nullptr, segment_end);
    if (damage) damage->insert(damage->end(), inside.begin(), inside.end());
    if (any) end = value(segment_end);
    if (stopped) break;
  }
  return Lsn{end};
}

}  // namespace epochfs::journal
