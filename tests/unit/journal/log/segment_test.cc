// Segments and their reader: is what a damaged or growing journal tells always a
// part of what was written, with the damage named?
#include <xxhash.h>

#include <map>

#include "journal/log/log_view.h"
#include "journal/log/reader.h"
#include "journal/volume/epochs.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/records.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

constexpr uint64_t kSegment = 64 << 10;

// One segment's bytes, filled record by record.
class SegmentBytes {
 public:
  SegmentBytes(const Uuid& lineage, uint64_t index) : base_(index * kSegment), bytes_(kSegment) {
    write_segment_header(bytes_, lineage, index, kSegment);
  }
  // Returns the record's LSN, or Lsn{0} when it does not fit.
  Lsn add(Record r) {
    const size_t size = encoded_size(r);
    if (at_ + size > kSegment) return Lsn{0};
    r.lsn = Lsn{base_ + at_};
    encode(r, std::span(bytes_).subspan(at_, size));
    at_ += size;
    return r.lsn;
  }
  void pad() {
    if (kSegment - at_ >= kRecordHeaderBytes) {
      encode_padding(Lsn{base_ + at_}, std::span(bytes_).subspan(at_));
    }
    at_ = kSegment;
  }
  // Zeros in place of a record.
  void erase(Lsn lsn) {
    const size_t offset = value(lsn) - base_;
    uint32_t length;
    std::memcpy(&length, bytes_.data() + offset, sizeof length);
    std::memset(bytes_.data() + offset, 0, length);
  }
  size_t used() const { return at_; }
  uint64_t base() const { return base_; }
  std::span<std::byte> bytes() { return bytes_; }
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

 private:
  uint64_t base_;
  size_t at_ = kSegmentHeaderBytes;
  std::vector<std::byte> bytes_;
};

Record numbered(uint64_t n, EpochId epoch = EpochId{1}) {
  Record r;
  r.type = RecordType::kWrite;
  r.time_ns = n;
  r.epoch = epoch;
  r.file = {n, n};
  r.range = {n, n + 1};
  return r;
}

struct Scanned {
  std::vector<std::pair<Lsn, Record>> records;
  std::vector<Damage> damage;
  Lsn end{};
};

Scanned scan(std::span<const std::byte> bytes, uint64_t base, Lsn from = Lsn{0}) {
  Scanned out;
  scan_segment(
      bytes, base, from,
      [&](const Record& r) {
        out.records.emplace_back(r.lsn, r);
        return true;
      },
      &out.damage, out.end);
  return out;
}

// One record of every type, and room behind them.
class Golden : public ::testing::Test {
 protected:
  void SetUp() override {
    Random random;
    for (uint16_t type = 1; type <= kLastRecordType; ++type) {
      auto& owned = *kept_.emplace_back(std::make_unique<OwnedRecord>());
      fill_random(static_cast<RecordType>(type), random, owned);
      owned.record.lsn = segment_.add(owned.record);
      golden_[owned.record.lsn] = &owned.record;
      ends_.push_back(segment_.used());
    }
    used_ = segment_.used() + 256;
  }
  std::span<std::byte> bytes() { return segment_.bytes().first(used_); }

  const Uuid lineage_ = Uuid::random();
  SegmentBytes segment_{lineage_, 3};
  std::vector<std::unique_ptr<OwnedRecord>> kept_;
  std::map<Lsn, const Record*> golden_;
  std::vector<size_t> ends_;
  size_t used_ = 0;
};

TEST_F(Golden, CutAtEveryByteLeavesAValidPrefix) {
  for (size_t size = 0; size <= used_; ++size) {
    std::vector<std::byte> cut(bytes().begin(), bytes().begin() + long(size));
    Scanned got = scan(cut, segment_.base());
    size_t whole = 0;
    while (whole < ends_.size() && ends_[whole] <= size) ++whole;
    ASSERT_EQ(got.records.size(), whole) << "cut at " << size;
    for (const auto& [lsn, r] : got.records) ASSERT_TRUE(r == *golden_.at(lsn));
    EXPECT_TRUE(got.damage.empty()) << "a torn tail is the end, no damage";
    const size_t end = whole ? ends_[whole - 1] : std::min(size, kSegmentHeaderBytes);
    EXPECT_EQ(value(got.end), segment_.base() + end);
  }
}

TEST_F(Golden, FlippedBitLosesOneRecordAndInventsNone) {
  for (size_t at = kSegmentHeaderBytes; at < ends_.back(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes()[at] ^= std::byte{1} << bit;
      Scanned got = scan(bytes(), segment_.base());
      bytes()[at] ^= std::byte{1} << bit;
      const bool in_last = at >= ends_[ends_.size() - 2];
      ASSERT_EQ(got.records.size(), golden_.size() - 1) << "byte " << at << " bit " << bit;
      for (const auto& [lsn, r] : got.records) ASSERT_TRUE(r == *golden_.at(lsn));
      ASSERT_EQ(got.damage.size(), in_last ? 0u : 1u) << "byte " << at << " bit " << bit;
      if (in_last) continue;
      const Damage& d = got.damage[0];
      EXPECT_TRUE(golden_.count(d.at)) << "damage begins where the record did";
      EXPECT_GT(value(d.at) + d.bytes, segment_.base() + at);
      EXPECT_LE(value(d.at), segment_.base() + at);
    }
  }
}

TEST_F(Golden, FlippedBitBehindTheEndIsNoRecord) {
  for (size_t at = ends_.back(); at < used_; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes()[at] ^= std::byte{1} << bit;
      Scanned got = scan(bytes(), segment_.base());
      bytes()[at] ^= std::byte{1} << bit;
      ASSERT_EQ(got.records.size(), golden_.size());
      EXPECT_EQ(value(got.end), segment_.base() + ends_.back());
    }
  }
}

TEST_F(Golden, FlippedBitInTheHeaderIsNamed) {
  auto check = [&] { return check_segment_header(bytes(), lineage_, 3, kSegment, "0003.seg"); };
  ASSERT_OK(check());
  for (size_t bit = 0; bit < kSegmentHeaderBytes * 8; ++bit) {
    bytes()[bit / 8] ^= std::byte{1} << (bit % 8);
    auto result = check();
    bytes()[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_FALSE(result) << "bit " << bit;
    EXPECT_NE(result.error().message().find("0003.seg"), std::string::npos);
  }
}

TEST_F(Golden, ShortHeaderIsNamed) {
  for (size_t size = 0; size < kSegmentHeaderBytes; ++size) {
    auto result = check_segment_header(bytes().first(size), lineage_, 3, kSegment, "0003.seg");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  }
}

TEST_F(Golden, ReadingBeginsAtAnyRecord) {
  size_t left = golden_.size();
  for (const auto& [lsn, record] : golden_) {
    Scanned got = scan(bytes(), segment_.base(), lsn);
    ASSERT_EQ(got.records.size(), left--);
    EXPECT_EQ(got.records.front().first, lsn);
    EXPECT_TRUE(got.damage.empty());
  }
}

TEST(Segment, OfAnotherVolumeIsRefused) {
  SegmentBytes segment(Uuid::random(), 3);
  auto result = check_segment_header(segment.bytes(), Uuid::random(), 3, kSegment, "x");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "read segment x: belongs to another volume");
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
}

TEST(Segment, UnderAnotherNameIsRefused) {
  const Uuid lineage = Uuid::random();
  SegmentBytes segment(lineage, 3);
  auto result = check_segment_header(segment.bytes(), lineage, 4, kSegment, "x");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "read segment x: its number is not that of its name");
}

TEST(Segment, OfAnotherSizeIsRefused) {
  const Uuid lineage = Uuid::random();
  SegmentBytes segment(lineage, 3);
  auto result = check_segment_header(segment.bytes(), lineage, 3, kSegment * 2, "x");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "read segment x: wrong segment size");
}

TEST(Segment, WithoutAVersionIsRefused) {
  const Uuid lineage = Uuid::random();
  SegmentBytes segment(lineage, 3);
  std::memset(segment.bytes().data() + 8, 0, 4);
  const uint64_t sum = XXH3_64bits(segment.bytes().data(), 56);
  std::memcpy(segment.bytes().data() + 56, &sum, sizeof sum);
  auto result = check_segment_header(segment.bytes(), lineage, 3, kSegment, "x");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "read segment x: no format version");
}

TEST(Segment, OfANewerVersionIsRefusedWithTheRemedy) {
  const Uuid lineage = Uuid::random();
  SegmentBytes segment(lineage, 3);
  const uint32_t newer = kStateFormatVersion + 1;
  std::memcpy(segment.bytes().data() + 8, &newer, sizeof newer);
  auto result = check_segment_header(segment.bytes(), lineage, 3, kSegment, "x");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(),
            "read segment x: newer format version 2; use a newer epochfs");
}

// ---- the reader over files ----

class Reader : public ::testing::Test {
 protected:
  SegmentBytes& segment(uint64_t index) {
    auto& entry = segments_[index];
    if (!entry) entry = std::make_unique<SegmentBytes>(volume_.info().lineage, index);
    return *entry;
  }
  std::string file_of(uint64_t index) const {
    return volume_.path() + "/segments/" + segment_name(index);
  }
  void save() {
    for (const auto& [index, bytes] : segments_) write_file(file_of(index), bytes->view());
  }
  // Adds until the segment is full.
  void fill(uint64_t index) {
    while (segment(index).add(numbered(++count_)) != Lsn{0}) {
    }
    --count_;
    segment(index).pad();
  }
  // A seal behind all that is there, listed in the manifest.
  void seal(uint64_t index) {
    Record r;
    r.type = RecordType::kSeal;
    r.epoch = EpochId{1};
    const Lsn lsn = segment(index).add(r);
    auto manifest = must(EpochManifest::open(Storage::system(), volume_.dir()));
    const SealedEpoch sealed{EpochId{1}, 1, Lsn{kSegmentHeaderBytes}, lsn, count_};
    must(manifest.append({&sealed, 1}));
  }
  struct Read {
    std::vector<uint64_t> numbers;
    std::vector<Damage> damage;
    Lsn end{};
  };
  Read read_all(Lsn from = Lsn{0}) {
    Read out;
    out.end = must(reader_.read_all(from, collect(out), &out.damage));
    return out;
  }
  Read read(Lsn from = Lsn{0}) {
    Read out;
    must(reader_.read(from, collect(out), &out.damage));
    return out;
  }
  static std::function<bool(const Record&)> collect(Read& out) {
    return [&out](const Record& r) {
      if (r.type == RecordType::kWrite) out.numbers.push_back(r.file.inode);
      return true;
    };
  }
  std::vector<uint64_t> up_to(uint64_t last) {
    std::vector<uint64_t> out(last);
    for (uint64_t i = 0; i < last; ++i) out[i] = i + 1;
    return out;
  }

  TemporaryDirectory dir_;
  Volume volume_ = make_volume(dir_, kSegment);
  JournalReader reader_{volume_};
  std::map<uint64_t, std::unique_ptr<SegmentBytes>> segments_;
  uint64_t count_ = 0;
};

TEST_F(Reader, EmptyJournalHasNothing) {
  Read got = read_all();
  EXPECT_TRUE(got.numbers.empty());
  EXPECT_TRUE(got.damage.empty());
  EXPECT_EQ(must(reader_.oldest()), Lsn{kSegmentHeaderBytes});
}

TEST_F(Reader, RecordsComeInOrderAcrossSegments) {
  fill(0);
  fill(1);
  segment(2).add(numbered(++count_));
  save();
  Read got = read_all();
  EXPECT_EQ(got.numbers, up_to(count_));
  EXPECT_TRUE(got.damage.empty());
  EXPECT_EQ(value(got.end), 2 * kSegment + segment(2).used());
}

TEST_F(Reader, SegmentPreparedAheadIsNoDamage) {
  fill(0);
  segment(1);  // a header and no record
  save();
  write_file(file_of(2), std::string(kSegment, '\0'));  // not even that
  write_file(file_of(3), "");
  Read got = read_all();
  EXPECT_EQ(got.numbers, up_to(count_));
  EXPECT_TRUE(got.damage.empty());
}

TEST_F(Reader, OtherFilesInTheFolderAreIgnored) {
  fill(0);
  save();
  for (const char* name : {"0.seg", "00000000000000000.seg", "000000000000000A.seg",
                           "0000000000000001.seg.new", "notes"}) {
    write_file(volume_.path() + "/segments/" + name, "anything");
  }
  EXPECT_EQ(read_all().numbers, up_to(count_));
}

TEST_F(Reader, MissingSegmentIsDamage) {
  fill(0);
  fill(1);
  fill(2);
  save();
  std::filesystem::remove(file_of(1));
  Read got = read_all();
  ASSERT_EQ(got.damage.size(), 1u);
  EXPECT_EQ(got.damage[0].error, DecodeError::kMissing);
  EXPECT_EQ(value(got.damage[0].at), kSegment);
  EXPECT_EQ(got.damage[0].bytes, kSegment);
  EXPECT_LT(got.numbers.size(), count_);
}

TEST_F(Reader, SegmentWithoutAHeaderBetweenOthersIsDamage) {
  fill(0);
  fill(1);
  fill(2);
  save();
  poke(file_of(1), 0, std::string(4096, '\0'));
  Read got = read_all();
  ASSERT_EQ(got.damage.size(), 1u);
  EXPECT_EQ(got.damage[0].error, DecodeError::kMissing);
}

TEST_F(Reader, RecordsLostAtTheEndOfAFullSegmentAreDamage) {
  fill(0);
  segment(1).add(numbered(++count_));
  segment(1).add(numbered(++count_));
  save();
  poke(file_of(0), kSegment - 4096, std::string(4096, '\0'));
  Read got = read_all();
  ASSERT_EQ(got.damage.size(), 1u);
  EXPECT_EQ(got.damage[0].error, DecodeError::kMissing);
  EXPECT_EQ(value(got.damage[0].at) + got.damage[0].bytes, kSegment);
  EXPECT_EQ(got.numbers.back(), count_);
}

TEST_F(Reader, ShortFileIsReadAsFarAsItGoes) {
  fill(0);
  fill(1);
  save();
  std::filesystem::resize_file(file_of(0), 1000);
  Read got = read_all();
  ASSERT_EQ(got.damage.size(), 1u);
  EXPECT_EQ(value(got.damage[0].at) + got.damage[0].bytes, kSegment);
  EXPECT_EQ(got.numbers.front(), 1u);
  EXPECT_EQ(got.numbers.back(), count_);
}

TEST_F(Reader, MissingBeginningIsDamage) {
  fill(0);
  fill(1);
  save();
  std::filesystem::remove(file_of(0));
  EXPECT_EQ(read_all(Lsn{kSegmentHeaderBytes}).damage.size(), 1u);
  // Unless the oldest record there is was asked for: earlier ones were released.
  EXPECT_TRUE(read_all().damage.empty());
  EXPECT_EQ(must(reader_.oldest()), Lsn{kSegment + kSegmentHeaderBytes});
}

TEST_F(Reader, HoleBeforeTheNewestSealIsDamage) {
  segment(0).add(numbered(++count_));
  const Lsn hole = segment(0).add(numbered(++count_));
  segment(0).add(numbered(++count_));
  seal(0);
  segment(0).erase(hole);
  save();
  Read got = read();
  EXPECT_EQ(got.numbers, (std::vector<uint64_t>{1, 3}));
  ASSERT_EQ(got.damage.size(), 1u);
  EXPECT_EQ(got.damage[0].at, hole);
  EXPECT_EQ(got.damage[0].error, DecodeError::kEndOfLog);
}

TEST_F(Reader, HoleBehindTheNewestSealMayBeARecordBeingWritten) {
  segment(0).add(numbered(++count_));
  seal(0);
  const Lsn hole = segment(0).add(numbered(++count_));
  segment(0).add(numbered(++count_));
  segment(0).erase(hole);
  save();
  Read got = read();
  EXPECT_EQ(got.numbers, (std::vector<uint64_t>{1, 3}));
  EXPECT_TRUE(got.damage.empty());
  EXPECT_EQ(read_all().damage.size(), 1u) << "where nobody writes it is a hole";
}

TEST_F(Reader, StopsWhenAsked) {
  fill(0);
  fill(1);
  save();
  uint64_t seen = 0;
  ASSERT_OK(reader_.read(Lsn{0}, [&](const Record&) { return ++seen < 5; }));
  EXPECT_EQ(seen, 5u);
}

TEST_F(Reader, SegmentOfAnotherVolumeEndsReading) {
  fill(0);
  save();
  SegmentBytes foreign(Uuid::random(), 1);
  foreign.add(numbered(1));
  write_file(file_of(1), foreign.view());
  auto result = reader_.read(Lsn{0}, [](const Record&) { return true; });
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("belongs to another volume"), std::string::npos);
}

TEST_F(Reader, SwappedSegmentsAreRefused) {
  fill(0);
  fill(1);
  save();
  std::filesystem::rename(file_of(0), file_of(0) + ".aside");
  std::filesystem::rename(file_of(1), file_of(0));
  std::filesystem::rename(file_of(0) + ".aside", file_of(1));
  EXPECT_FALSE(reader_.read(Lsn{0}, [](const Record&) { return true; }));
}

// Its positions would wrap round to those of the first segments.
TEST_F(Reader, SegmentNumberBeyondAllPositionsIsRefused) {
  segment(0).add(numbered(++count_));
  segment(uint64_t{1} << 48).add(numbered(++count_));
  save();
  const std::string message =
      "read segment 0001000000000000.seg: its number is larger than any "
      "can be";
  auto read = reader_.read(Lsn{0}, [](const Record&) { return true; });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message(), message);
  auto view = LogView::open(volume_);
  ASSERT_FALSE(view);
  EXPECT_EQ(view.error().message(), message);
  std::filesystem::remove(file_of(0));
  EXPECT_FALSE(reader_.oldest());
}

TEST_F(Reader, DuplicatedSegmentIsRefused) {
  fill(0);
  save();
  std::filesystem::copy_file(file_of(0), file_of(1));
  EXPECT_FALSE(reader_.read(Lsn{0}, [](const Record&) { return true; }));
}

}  // namespace
}  // namespace epochfs::journal
