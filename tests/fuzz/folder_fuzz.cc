// Fuzz target: a whole volume folder. Whatever its files hold, reading and recovery end with
// a value or with an error that says what is wrong. They invent no record, and recovery loses
// none that could be read before.
//
// An input is a list of patches, each of which puts bytes into one file of the folder:
//   u8 file  u8 options  u24 offset  u16 length  bytes
// so a small input makes files that are large and mostly zeros. A valid `volume` file is
// there to begin with.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>

#include "journal/log/in_flight.h"
#include "journal/log/journal.h"
#include "journal/log/log_view.h"
#include "journal/volume/cursors.h"
#include "journal/volume/epochs.h"
#include "tests/fuzz/memory_folder.h"
#include "tests/fuzz/sealing.h"
#include "tests/fuzz/target.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/records.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs {
namespace {

constexpr uint64_t kSegment = journal::kMinSegmentBytes;
constexpr uint64_t kMaxFileBytes = 2 << 20;
// Lost seals make entries of the manifest, at most so many here: more take long, and no more.
constexpr uint64_t kMaxEpochsApart = 1000;

enum File : uint8_t { kVolume, kManifest, kSlots, kCursor, kOtherCursor, kFirstSegment };
constexpr uint8_t kPlainSegments = 6;
// Segments whose numbers are at the edge of what can be.
constexpr uint64_t kOddSegments[] = {0xffff,           1ull << 16,       1ull << 32,
                                     (1ull << 47) - 1, 1ull << 47,       (1ull << 48) - 1,
                                     1ull << 48,       (1ull << 48) + 1, UINT64_MAX};
constexpr uint8_t kFiles = kFirstSegment + kPlainSegments + std::size(kOddSegments);

enum Options : uint8_t {
  kSealed = 1,    // checksums, and what else depends on the place, are made right
  kThisBoot = 2,  // in-flight: written by the boot that runs
  kFilled = 4,    // segment: padding from the last patch to the end
  kCut = 8,       // the file ends with this patch
};

struct Content {
  std::string bytes;
  uint8_t options = 0;
  size_t end = 0;  // of the last patch

  std::span<std::byte> span() { return std::as_writable_bytes(std::span(bytes)); }
};
using Folder = std::map<uint8_t, Content>;

uint64_t segment_of(uint8_t file) {
  const uint64_t n = file - kFirstSegment;
  return n < kPlainSegments ? n : kOddSegments[n - kPlainSegments];
}

std::string name_of(uint8_t file) {
  switch (file) {
    case kVolume: return journal::kVolumeFile;
    case kManifest: return journal::kEpochsFile;
    case kSlots: return journal::kInFlightFile;
    case kCursor: return "cursors/0a";
    case kOtherCursor: return "cursors/0b";
  }
  return "segments/" + journal::segment_name(segment_of(file));
}

journal::VolumeInfo info() {
  journal::VolumeInfo out = testing::volume_info(kSegment);
  out.lineage = Uuid{};
  return out;
}

std::string this_boot() {
  UniqueFd proc = testing::must(open_directory("/proc/sys/kernel/random"));
  return testing::must(read_file(proc.get(), "boot_id", 64)).substr(0, 36);
}

// ---- inputs ----

Folder parse(std::string_view in) {
  Folder out;
  while (in.size() >= 7) {
    auto byte = [&](size_t i) { return size_t(uint8_t(in[i])); };
    Content& file = out[uint8_t(byte(0) % kFiles)];
    const size_t offset = byte(2) | byte(3) << 8 | byte(4) << 16;
    const size_t length = std::min(byte(5) | byte(6) << 8, in.size() - 7);
    file.options = uint8_t(byte(1));
    if (offset + length <= kMaxFileBytes) {
      file.end = offset + length;
      if (file.bytes.size() < file.end || file.options & kCut) file.bytes.resize(file.end);
      in.copy(file.bytes.data() + offset, length, 7);
    }
    in.remove_prefix(7 + length);
  }
  return out;
}

// The patches that make a file: its bytes without long stretches of zeros.
void pack(uint8_t file, uint8_t options, std::string_view bytes, std::string& out) {
  auto put = [&](size_t from, size_t to, uint8_t with) {
    const size_t length = to - from;
    const char head[] = {char(file),       char(with),   char(from),       char(from >> 8),
                         char(from >> 16), char(length), char(length >> 8)};
    out.append(head, sizeof head);
    out.append(bytes.substr(from, length));
  };
  for (size_t at = 0; (at = bytes.find_first_not_of('\0', at)) != std::string_view::npos;) {
    const size_t zeros = bytes.find(std::string(64, '\0'), at);
    const size_t to = std::min({zeros, bytes.size(), at + UINT16_MAX});
    put(at, to, options);
    at = to;
  }
}

void seal(uint8_t file, Content& content) {
  auto bytes = content.span();
  if (file == kVolume) {
    if (bytes.size() < 80) return;
    const auto path = uint32_t(bytes.size() - 80);
    std::memcpy(bytes.data() + 12, &path, sizeof path);
    const uint64_t sum = XXH3_64bits(bytes.data() + 24, bytes.size() - 24);
    std::memcpy(bytes.data() + 16, &sum, sizeof sum);
  } else if (file == kManifest) {
    for (uint64_t n = 0; n < bytes.size() / 64; ++n) {
      const uint64_t epoch = n + 1;
      std::memcpy(bytes.data() + 64 * n, &epoch, sizeof epoch);
      fuzz::seal_before(bytes.subspan(64 * n, 64), 56);
    }
  } else if (file == kSlots) {
    for (size_t slot = 0; slot < journal::kInFlightSlots; ++slot) {
      const uint64_t at = journal::in_flight_slot_offset(slot);
      if (at + 8 >= bytes.size()) break;
      const size_t size = std::min<size_t>(journal::kInFlightSlotBytes, bytes.size() - at);
      fuzz::seal_records(bytes.subspan(at, size), 8, 0, true);
    }
  } else if (file >= kFirstSegment) {
    const uint64_t index = segment_of(file);
    const size_t last = std::min<size_t>(content.end, kSegment);
    if (content.options & kFilled && bytes.size() < kSegment) content.bytes.resize(kSegment);
    bytes = content.span();
    if (bytes.size() < journal::kSegmentHeaderBytes) return;
    alignas(8) std::array<std::byte, journal::kSegmentHeaderBytes> header;
    journal::write_segment_header(header, Uuid{}, index, kSegment);
    std::copy(header.begin(), header.end(), bytes.begin());
    if (content.options & kFilled) {
      for (size_t at = (std::max(last, journal::kSegmentHeaderBytes) + 7) / 8 * 8;
           kSegment - at >= 72;) {
        size_t size = std::min<size_t>(kSegment - at, 1024);
        if (kSegment - at > size && kSegment - at - size < 72) size -= 72;
        journal::encode_padding(Lsn{index * kSegment + at}, bytes.subspan(at, size));
        at += size;
      }
    }
    fuzz::seal_records(bytes, journal::kSegmentHeaderBytes, index * kSegment);
  }
}

void write(Folder folder) {
  const std::string& path = fuzz::memory_folder().path();
  std::filesystem::remove_all(path + "/volume");
  for (const char* name : {journal::kSegmentsDir, journal::kCursorsDir, journal::kPreimagesDir}) {
    std::filesystem::create_directories(path + "/volume/" + name);
  }
  static const std::string valid_volume = [&] {
    const std::string aside = path + "/aside";
    testing::must(journal::Volume::create(Storage::system(), aside, info()));
    return testing::read_whole_file(aside + "/" + journal::kVolumeFile);
  }();
  if (!folder.count(kVolume)) folder[kVolume].bytes = valid_volume;
  static const std::string boot = this_boot();
  for (auto& [file, content] : folder) {
    if (content.options & kSealed) seal(file, content);
    if (file == kSlots && content.options & kThisBoot && content.bytes.size() >= 64) {
      content.bytes.replace(16, 36, boot);
    }
    testing::write_file(path + "/volume/" + name_of(file), content.bytes);
  }
}

// ---- what must hold ----

// Syncs nothing, and has no room for what would take long to write.
struct SmallStorage : Storage {
  Result<void> allocate(const char*, int fd, uint64_t size, std::string_view) override {
    if (size > kMaxFileBytes) return fail("allocate", ENOSPC);
    struct stat st;
    if (::fstat(fd, &st) != 0) return fail_errno("stat");
    if (uint64_t(st.st_size) < size && ::ftruncate(fd, off_t(size)) != 0) return fail_errno("grow");
    return {};
  }
  Result<void> sync_data(const char*, int, std::string_view) override { return {}; }
  Result<void> sync_directory(const char*, int, std::string_view) override { return {}; }
  Result<void> remove_file(const char*, int dir, const std::string& name) override {
    if (::unlinkat(dir, name.c_str(), 0) != 0 && errno != ENOENT) return fail_errno("remove");
    return {};
  }
};

template <typename T>
bool ok(const Result<T>& result) {
  EPOCHFS_CHECK(result || result.error().message().size() > 4);
  return result.has_value();
}

using Records = std::map<Lsn, std::string>;  // as they are encoded

struct Seen {
  Records records;
  size_t holes = 0;
  uint64_t last_epoch = 0;
};

std::string bytes_of(const journal::Record& r) {
  auto bytes = testing::encoded(r);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Each record stands in the file where its LSN says, and each comes behind the one before.
Result<Seen> read(const journal::Volume& volume) {
  Seen out;
  std::vector<journal::Damage> damage;
  uint64_t position = 0, index = UINT64_MAX;
  std::string segment;
  const uint64_t size = volume.info().segment_bytes;
  EPOCHFS_TRY(Lsn end, journal::JournalReader(volume).read_all(
                           Lsn{0},
                           [&](const journal::Record& r) {
                             EPOCHFS_CHECK(value(r.lsn) >= position);
                             position = value(r.lsn) + journal::encoded_size(r);
                             if (index != value(r.lsn) / size) {
                               index = value(r.lsn) / size;
                               segment = testing::read_whole_file(volume.path() + "/segments/" +
                                                                  journal::segment_name(index));
                             }
                             const auto at = value(r.lsn) % size;
                             EPOCHFS_CHECK(at < segment.size());
                             const journal::Decoded d = journal::decode(
                                 std::as_bytes(std::span(segment)).subspan(at), r.lsn);
                             EPOCHFS_CHECK(d.error == journal::DecodeError::kNone && d.record == r);
                             if (r.type == journal::RecordType::kPadding) return true;
                             out.records[r.lsn] = bytes_of(r);
                             out.last_epoch = std::max(out.last_epoch, value(r.epoch));
                             return true;
                           },
                           &damage));
  EPOCHFS_CHECK(out.records.empty() || end > out.records.rbegin()->first);
  out.holes = damage.size();
  return out;
}

void look(const journal::Volume& volume, const Result<Seen>& seen) {
  ok(journal::read_cursors(volume.dir()));
  ok(journal::look_at_in_flight(volume.dir()));
  const auto epochs = journal::read_epochs(volume.dir());
  const auto last = journal::read_last_epoch(volume.dir());
  ok(epochs);
  ok(last);
  if (epochs) EPOCHFS_CHECK(last && (epochs->empty() ? !*last : *last == epochs->back()));
  auto view = journal::LogView::open(volume);
  EPOCHFS_CHECK(ok(view) == ok(seen));
  if (!view) return;
  Records records;
  bool bad_operands = false;
  for (const auto& segment : view->segments()) {
    journal::LogView::scan(segment, segment.begin(), [&](const journal::RecordView& v) {
      const journal::Decoded d = v.decode();
      bad_operands |= d.error != journal::DecodeError::kNone;
      EPOCHFS_CHECK(view->record_at(v.head.lsn).error == d.error);
      if (d.error == journal::DecodeError::kNone &&
          d.record.type != journal::RecordType::kPadding) {
        records[v.head.lsn] = bytes_of(d.record);
      }
      return true;
    });
  }
  EPOCHFS_CHECK(bad_operands || records == seen->records);
  if (!records.empty()) EPOCHFS_CHECK(view->end() > records.rbegin()->first);
}

struct Opened {
  std::unique_ptr<journal::Journal> journal;
  journal::RecoveryReport report;
};

Result<Opened> open(Storage& storage, journal::Volume& volume) {
  Opened out;
  EPOCHFS_TRY(out.journal, journal::Journal::open(
                               storage, volume,
                               [](const FileHandle&, std::string_view name) {
                                 return name.size() % 2 ? journal::NamedFile{{name.size(), 1}, {}}
                                                        : journal::NamedFile{};
                               },
                               out.report));
  return out;
}

// Everything that was there is there; what is new stands behind it.
void check_kept(const Records& before, const Records& after, Lsn tail) {
  for (const auto& [lsn, bytes] : before) {
    auto found = after.find(lsn);
    EPOCHFS_CHECK(found != after.end() && found->second == bytes);
  }
  for (const auto& [lsn, bytes] : after) EPOCHFS_CHECK(before.count(lsn) || lsn >= tail);
}

void recover(journal::Volume& volume, const Result<Seen>& before) {
  SmallStorage storage;
  auto first = open(storage, volume);
  if (!ok(first)) {
    if (before) EPOCHFS_CHECK(testing::must(read(volume)).records == before->records);
    return;
  }
  if (!before) {
    // What lies before the newest seal is read by those who want to know of it, only.
    EPOCHFS_CHECK(testing::must(journal::read_last_epoch(volume.dir())));
    return;
  }
  Records kept = testing::must(read(volume)).records;
  const Lsn tail = before->records.empty() ? Lsn{0} : before->records.rbegin()->first;
  check_kept(before->records, kept, tail);
  const auto last = testing::must(journal::read_last_epoch(volume.dir()));
  EPOCHFS_CHECK(first->journal->open_epoch() == (last ? next(last->epoch) : EpochId{1}));

  journal::Record r;
  r.type = journal::RecordType::kWrite;
  r.file = {7, 7};
  if (first->journal->append(r) == Lsn{0}) return;  // no room
  EPOCHFS_CHECK(kept.empty() || r.lsn > kept.rbegin()->first);
  const journal::SealedEpoch sealed = first->journal->seal();
  if (!ok(first->journal->publish(sealed))) return;
  kept = testing::must(read(volume)).records;
  EPOCHFS_CHECK(kept.count(r.lsn) && kept.count(sealed.seal));
  first = {};

  // What stood in the way of the first recovery stands before a seal now.
  auto second = testing::must(open(storage, volume));
  EPOCHFS_CHECK(!second.report.machine_stopped && !second.report.damaged);
  EPOCHFS_CHECK(second.report.slots_filled == 0 && second.report.bytes_skipped == 0);
  EPOCHFS_CHECK(testing::must(read(volume)).records == kept);
  EPOCHFS_CHECK(testing::must(journal::read_last_epoch(volume.dir())) == sealed);
  testing::must(second.journal->close());
  second = {};
  auto third = testing::must(open(storage, volume));
  EPOCHFS_CHECK(third.report.clean);
  EPOCHFS_CHECK(testing::must(read(volume)).records == kept);
}

void one(std::string_view input) {
  write(parse(input));
  auto volume = journal::Volume::open(fuzz::memory_folder().path() + "/volume");
  if (!ok(volume)) return;
  const auto seen = read(*volume);
  ok(seen);
  look(*volume, seen);
  const auto last = journal::read_last_epoch(volume->dir());
  const uint64_t sealed = last && *last ? value((*last)->epoch) : 0;
  const uint64_t newest = seen ? seen->last_epoch : 0;
  if (newest > sealed + kMaxEpochsApart && newest <= sealed + (1ull << 34)) return;
  recover(*volume, seen);
}

}  // namespace

namespace fuzz {

const uint64_t kShortRun = 500;

// What a mount leaves: some records, seals that are published or not, filled slots; ended
// by itself, killed, or with the machine.
std::vector<std::string> seeds(testing::Random& random) {
  std::vector<std::string> out;
  SmallStorage storage;
  for (int kind = 0; kind < 6; ++kind) {
    testing::TemporaryDirectory dir;
    journal::Volume volume =
        testing::must(journal::Volume::create(storage, dir / "volume", info()));
    auto opened = testing::must(open(storage, volume));
    journal::Journal& journal = *opened.journal;
    for (uint64_t epoch = random.below(4); epoch > 0; --epoch) {
      for (uint64_t n = random.below(4); n > 0; --n) {
        testing::OwnedRecord owned;
        testing::fill_random(static_cast<journal::RecordType>(1 + random.below(15)), random, owned);
        journal.append(owned.record);
      }
      const journal::SealedEpoch sealed = journal.seal();
      if (epoch > 1 || random.one_in(2)) testing::must(journal.publish(sealed));
    }
    for (uint64_t n = random.below(3); n > 0; --n) {
      testing::OwnedRecord owned;
      testing::fill_random(static_cast<journal::RecordType>(1 + random.below(15)), random, owned);
      journal.in_flight().claim()->fill({&owned.record, 1});
      if (random.one_in(2)) journal.append(owned.record);
    }
    if (random.one_in(3)) testing::must(journal.close());
    opened = {};
    std::string packed;
    const std::string path = volume.path() + "/";
    if (random.one_in(2))
      pack(kVolume, kSealed, testing::read_whole_file(path + journal::kVolumeFile), packed);
    pack(kManifest, kSealed, testing::read_whole_file(path + journal::kEpochsFile), packed);
    const uint8_t boot = random.one_in(3) ? 0 : kThisBoot;
    pack(kSlots, kSealed | boot, testing::read_whole_file(path + journal::kInFlightFile), packed);
    const std::string segment =
        testing::read_whole_file(path + "segments/" + journal::segment_name(0));
    pack(kFirstSegment, kSealed | (kind > 2 ? kFilled : 0), segment, packed);
    // The same records once more, under another number.
    if (kind > 2) pack(uint8_t(kFirstSegment + 1 + random.below(3)), kSealed, segment, packed);
    if (kind > 4) {
      pack(uint8_t(kFirstSegment + kPlainSegments + random.below(std::size(kOddSegments))), kSealed,
           segment, packed);
    }
    pack(kCursor, 0, std::to_string(random.below(5)) + "\n", packed);
    out.push_back(packed);
  }
  return out;
}

}  // namespace fuzz
}  // namespace epochfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  epochfs::one({reinterpret_cast<const char*>(data), size});
  return 0;
}
