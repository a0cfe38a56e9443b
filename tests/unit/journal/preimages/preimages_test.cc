// Pre-images: does the reader see what a file held at the seal, while the writer
// goes on? And byte ranges, which both sides reckon with.
#include "journal/preimages/preimages.h"

#include <atomic>
#include <thread>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

// ---- ByteRanges ----

std::vector<ByteRange> list(const ByteRanges& ranges) {
  std::vector<ByteRange> out;
  ranges.for_each([&](ByteRange r) { out.push_back(r); });
  return out;
}

TEST(ByteRanges, NeighboursBecomeOne) {
  ByteRanges ranges;
  for (uint64_t i = 0; i < 1000; ++i) ranges.add({i * 10, i * 10 + 10});
  EXPECT_EQ(list(ranges), (std::vector<ByteRange>{{0, 10000}}));
  EXPECT_EQ(ranges.count(), 1u);
}

TEST(ByteRanges, EmptyRangesAreNothing) {
  ByteRanges ranges;
  ranges.add({5, 5});
  ranges.add({7, 3});
  EXPECT_TRUE(ranges.empty());
  EXPECT_FALSE(ranges.touches({0, 0}));
}

TEST(ByteRanges, ReachTheEndOfAnyFile) {
  ByteRanges ranges;
  ranges.add({100, ByteRange::kEndOfFile});
  ranges.add({50, 60});
  EXPECT_TRUE(ranges.touches({uint64_t{1} << 62, (uint64_t{1} << 62) + 1}));
  ranges.subtract({200, 300});
  EXPECT_EQ(list(ranges), (std::vector<ByteRange>{{50, 60}, {100, 200}, {300, UINT64_MAX}}));
  EXPECT_EQ(list(ranges.within({55, 150})), (std::vector<ByteRange>{{55, 60}, {100, 150}}));
}

TEST(ByteRanges, AgreeWithASetOfBytes) {
  Random random;
  for (int round = 0; round < 300; ++round) {
    ByteRanges ranges, other;
    std::vector<bool> bytes(64), others(64);
    for (int i = 0; i < 30; ++i) {
      const uint64_t begin = random.below(64), end = random.below(65);
      const int what = int(random.below(3));
      if (what == 0) ranges.add({begin, end});
      if (what == 1) ranges.subtract({begin, end});
      if (what == 2) other.add({begin, end});
      for (uint64_t b = begin; b < end; ++b) (what == 2 ? others : bytes)[b] = what != 1;
    }
    ByteRanges both = ranges.within(other), either = ranges, rest = ranges;
    either.add(other);
    rest.subtract(other);
    for (uint64_t b = 0; b < 64; ++b) {
      ASSERT_EQ(ranges.touches({b, b + 1}), bytes[b]);
      ASSERT_EQ(both.touches({b, b + 1}), bytes[b] && others[b]);
      ASSERT_EQ(either.touches({b, b + 1}), bytes[b] || others[b]);
      ASSERT_EQ(rest.touches({b, b + 1}), bytes[b] && !others[b]);
    }
    ASSERT_EQ(ranges.bytes(), uint64_t(std::count(bytes.begin(), bytes.end(), true)));
  }
}

// ---- the log ----

constexpr FileId kFile{7, 1}, kOther{8, 1};

class PreImages : public ::testing::Test {
 protected:
  UniqueFd fd_of_log() { return UniqueFd(::fcntl(writer_->fd(), F_DUPFD_CLOEXEC, 0)); }
  // What the reader makes of a backing file that holds only 'x' by now.
  std::string overlaid(const FileId& id, uint64_t offset, size_t size) {
    std::string data(size, 'x');
    must(reader_->refresh());
    must(reader_->overlay(id, offset, data.data(), data.size()));
    return data;
  }

  TemporaryDirectory dir_;
  UniqueFd folder_ = must(open_directory(dir_.path()));
  std::unique_ptr<PreImageWriter> writer_ = must(PreImageWriter::create(folder_.get(), "pin-1"));
  std::unique_ptr<PreImageReader> reader_ = must(PreImageReader::open(fd_of_log()));
};

TEST_F(PreImages, NothingSavedNothingPutOver) {
  EXPECT_EQ(overlaid(kFile, 0, 4), "xxxx");
  EXPECT_EQ(reader_->saved(kFile), nullptr);
  EXPECT_EQ(reader_->holes(kFile), nullptr);
  EXPECT_EQ(reader_->attributes(kFile), nullptr);
  EXPECT_FALSE(reader_->given_up());
  EXPECT_EQ(writer_->bytes(), 0u);
}

TEST_F(PreImages, LogLeavesNoFileBehind) { EXPECT_TRUE(std::filesystem::is_empty(dir_.path())); }

TEST_F(PreImages, SavedBytesWin) {
  writer_->publish_data(kFile, 10, "abcdef");
  EXPECT_EQ(overlaid(kFile, 8, 10), "xxabcdefxx");
  EXPECT_EQ(overlaid(kFile, 12, 2), "cd");
  EXPECT_EQ(overlaid(kFile, 15, 3), "fxx");
  EXPECT_EQ(overlaid(kFile, 16, 2), "xx");
  EXPECT_EQ(overlaid(kFile, 0, 10), std::string(10, 'x'));
  EXPECT_EQ(overlaid(kOther, 10, 6), "xxxxxx");
  EXPECT_EQ(list(*reader_->saved(kFile)), (std::vector<ByteRange>{{10, 16}}));
  EXPECT_TRUE(reader_->holes(kFile)->empty());
}

TEST_F(PreImages, SavedHolesAreZeros) {
  writer_->publish_hole(kFile, {4, 8});
  writer_->publish_hole(kFile, {20, 20});  // nothing
  EXPECT_EQ(overlaid(kFile, 2, 8), std::string("xx\0\0\0\0xx", 8));
  EXPECT_EQ(list(*reader_->saved(kFile)), (std::vector<ByteRange>{{4, 8}}));
  EXPECT_EQ(list(*reader_->holes(kFile)), (std::vector<ByteRange>{{4, 8}}));
}

TEST_F(PreImages, HoleMayReachTheEndOfAnyFile) {
  writer_->publish_hole(kFile, {4, ByteRange::kEndOfFile});
  EXPECT_EQ(overlaid(kFile, 2, 4), std::string("xx\0\0", 4));
  EXPECT_EQ(overlaid(kFile, uint64_t{1} << 62, 2), std::string("\0\0", 2));
}

TEST_F(PreImages, FirstAttributesWin) {
  writer_->publish_attributes(kFile, "as at the seal");
  writer_->publish_attributes(kFile, "later");
  must(reader_->refresh());
  ASSERT_NE(reader_->attributes(kFile), nullptr);
  EXPECT_EQ(*reader_->attributes(kFile), "as at the seal");
  EXPECT_EQ(reader_->attributes(kOther), nullptr);
}

TEST_F(PreImages, LongExtentIsSplitAndComesBack) {
  Random random;
  std::string data(3 * kMaxPreImageBytes + 12345, '\0');
  for (char& c : data) c = static_cast<char>(random.u64());
  writer_->publish_data(kFile, 1000, data);
  std::string expected = "x" + data + "x";
  EXPECT_EQ(overlaid(kFile, 999, expected.size()), expected);
  for (int i = 0; i < 50; ++i) {
    const uint64_t from = random.below(data.size()), size = random.below(data.size() - from) + 1;
    ASSERT_EQ(overlaid(kFile, 1000 + from, size), data.substr(from, size));
  }
}

TEST_F(PreImages, GivenUpIsSeenByTheReader) {
  writer_->publish_data(kFile, 0, "abc");
  writer_->give_up();
  EXPECT_TRUE(writer_->given_up());
  EXPECT_TRUE(reader_->given_up());
  const uint64_t before = writer_->bytes();
  writer_->publish_data(kFile, 10, "abc");
  EXPECT_EQ(writer_->bytes(), before) << "an incomplete log takes no more room";
}

TEST_F(PreImages, AttributesAboveTheirMaximumGiveUp) {
  writer_->publish_attributes(kFile, std::string(kMaxAttributesBytes + 1, 'a'));
  EXPECT_TRUE(reader_->given_up());
}

TEST_F(PreImages, OtherFileIsNoLog) {
  write_file(dir_ / "f", std::string(8192, 'x'));
  auto reader = PreImageReader::open(UniqueFd(::open((dir_ / "f").c_str(), O_RDWR | O_CLOEXEC)));
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().status, ExitStatus::kCorrupt);
}

TEST_F(PreImages, OtherVersionIsNoLog) {
  for (char version : {'\0', '\3'}) {
    write_file(dir_ / "f", std::string("EPOCHPRE") + version + std::string(8183, '\0'));
    auto reader = PreImageReader::open(UniqueFd(::open((dir_ / "f").c_str(), O_RDWR | O_CLOEXEC)));
    ASSERT_FALSE(reader) << int(version);
    EXPECT_EQ(reader.error().status, ExitStatus::kCorrupt);
  }
}

TEST_F(PreImages, DamagedEntryIsNamed) {
  constexpr uint64_t kFirst = 4096, kPayloadBytesAt = 4, kLengthAt = 32;
  struct Case {
    uint64_t at;
    std::string_view bytes;
  };
  for (Case c : {Case{kPayloadBytesAt, std::string_view("\xff\xff\xff\xff", 4)},
                 Case{kPayloadBytesAt, std::string_view("\0\xff\0\0", 4)},
                 Case{kLengthAt, std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff", 8)},
                 Case{kLengthAt, std::string_view("\x07\0\0\0", 4)}}) {
    writer_ = must(PreImageWriter::create(folder_.get(), "pin-2"));
    reader_ = must(PreImageReader::open(fd_of_log()));
    writer_->publish_data(kFile, 10, "abcdef");
    must(pwrite_full(writer_->fd(), c.bytes.data(), c.bytes.size(), kFirst + c.at, "log"));
    auto result = reader_->refresh();
    ASSERT_FALSE(result) << c.at;
    EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  }
}

TEST_F(PreImages, DamagedAttributesAreNamed) {
  writer_->publish_attributes(kFile, "as at the seal");
  must(pwrite_full(writer_->fd(), "?", 1, 4096 + 48 + 3, "log"));
  EXPECT_FALSE(reader_->refresh());
}

// The order that DESIGN.md asks of both sides makes every read exact: publish,
// then overwrite; read, then look for what was published.
TEST_F(PreImages, ReadingWhileOthersOverwriteIsExact) {
  constexpr size_t kSize = 1 << 20, kBlock = 4096;
  std::string at_seal(kSize, '\0');
  Random random;
  for (char& c : at_seal) c = static_cast<char>('a' + random.below(20));
  write_file(dir_ / "backing", at_seal);
  UniqueFd backing(::open((dir_ / "backing").c_str(), O_RDWR | O_CLOEXEC));

  std::atomic<size_t> next{0};
  std::vector<std::thread> writers;
  for (int t = 0; t < 3; ++t) {
    writers.emplace_back([&] {
      std::string old(kBlock, '\0');
      const std::string fresh(kBlock, 'X');
      for (size_t i; (i = next++) < kSize / kBlock;) {
        const uint64_t offset = (i * 37 % (kSize / kBlock)) * kBlock;
        must(pread_full(backing.get(), old.data(), kBlock, offset, "backing"));
        writer_->publish_data(kFile, offset, old);
        must(pwrite_full(backing.get(), fresh.data(), kBlock, offset, "backing"));
      }
    });
  }
  size_t reads = 0;
  bool last = false;
  while (!last) {
    last = next >= kSize / kBlock;
    const uint64_t offset = random.below(kSize - 1);
    const size_t size = 1 + random.below(std::min<uint64_t>(kSize - offset, 100'000));
    std::string data(size, '\0');
    must(pread_full(backing.get(), data.data(), size, offset, "backing"));
    must(reader_->refresh());
    must(reader_->overlay(kFile, offset, data.data(), size));
    ASSERT_EQ(data, at_seal.substr(offset, size));
    ++reads;
  }
  for (auto& t : writers) t.join();
  EXPECT_EQ(overlaid(kFile, 0, kSize), at_seal);
  EXPECT_GT(reads, 0u);
}

}  // namespace
}  // namespace epochfs::journal
