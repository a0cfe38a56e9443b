// Record: does every type survive its encoding, and nothing else pass for one?
#include "journal/log/record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/random.h"
#include "tests/support/records.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

constexpr size_t kLengthAt = 0, kTypeAt = 4, kFlagsAt = 6, kLsnAt = 16;

template <typename T>
void put(std::vector<std::byte>& bytes, size_t at, T v) {
  std::memcpy(bytes.data() + at, &v, sizeof v);
}

// As FORMAT.md shows bytes: two groups of eight on a line.
std::string to_hex(const std::vector<std::byte>& bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 16 == 0 && i != 0) out += '\n';
    if (i % 16 == 8) out += ' ';
    char two[3];
    std::snprintf(two, sizeof two, "%02x", std::to_integer<unsigned>(bytes[i]));
    out += two;
  }
  return out;
}

Record example() {
  Record r;
  r.type = RecordType::kUnlink;
  r.lsn = Lsn{4096};
  r.time_ns = 1'700'000'000'123'456'789;
  r.epoch = EpochId{3};
  r.caller = {1000, 100, 4242};
  r.file = {12, 1'700'000'000'000'000'001};
  r.parent = {2, 1'600'000'000'000'000'002};
  r.parent_handle.type = 1;
  r.parent_handle.size = 8;
  for (uint8_t i = 0; i < 8; ++i) r.parent_handle.bytes[i] = uint8_t(0xa0 + i);
  r.name = "old.txt";
  return r;
}

TEST(Record, EveryTypeComesBackAsItWent) {
  Random random;
  for (int round = 0; round < 300; ++round) {
    for (uint16_t type = 0; type <= kLastRecordType; ++type) {
      OwnedRecord owned;
      fill_random(static_cast<RecordType>(type), random, owned);
      owned.record.lsn = Lsn{random.u64()};
      auto bytes = encoded(owned.record);
      EXPECT_EQ(bytes.size() % kRecordAlignment, 0u);
      EXPECT_LE(bytes.size(), kMaxRecordBytes);
      Decoded d = decode(bytes, owned.record.lsn);
      ASSERT_EQ(d.error, DecodeError::kNone) << decode_error_name(d.error) << ", type " << type;
      EXPECT_EQ(d.size, bytes.size());
      EXPECT_TRUE(d.record == owned.record) << "type " << type;
    }
  }
}

TEST(Record, CountersAtTheirBoundariesComeBack) {
  for (uint64_t v : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << 32) - 1, uint64_t{1} << 32,
                     (uint64_t{1} << 63) - 1, uint64_t{1} << 63, UINT64_MAX}) {
    Record r = example();
    r.lsn = Lsn{v};
    r.time_ns = v;
    r.epoch = EpochId{v};
    r.file = {v, v};
    auto bytes = encoded(r);
    Decoded d = decode(bytes, Lsn{v});
    ASSERT_EQ(d.error, DecodeError::kNone) << v;
    EXPECT_TRUE(d.record == r) << v;
  }
}

TEST(Record, LargestRecordFitsItsMaximum) {
  Random random;
  size_t largest = 0;
  for (uint16_t type = 0; type <= kLastRecordType; ++type) {
    OwnedRecord owned;
    fill_random(static_cast<RecordType>(type), random, owned);
    Record& r = owned.record;
    const OperandsOf has = operands_of(r.type);
    std::string longest(kMaxNameBytes, 'n');
    if (has.handle) r.handle = random.handle(FileHandle::kMaxBytes);
    if (has.parent) r.parent_handle = random.handle(FileHandle::kMaxBytes);
    if (has.parent2) r.parent2_handle = random.handle(FileHandle::kMaxBytes);
    if (has.parent || has.xattr_name) r.name = longest;
    if (has.parent2) r.name2 = longest;
    largest = std::max(largest, encoded(r).size());
  }
  EXPECT_EQ(largest, 872u);  // as FORMAT.md says
  EXPECT_LE(largest, kMaxRecordBytes);
}

TEST(Record, WorkedExampleOfTheFormatPage) {
  EXPECT_EQ(to_hex(encoded(example())),
            "7800000006000000 0d44db4020b7cd2f\n"
            "0010000000000000 15cd853dfe9c9717\n"
            "0300000000000000 e803000064000000\n"
            "9210000000000000 0c00000000000000\n"
            "01002a36fe9c9717 0200000000000000\n"
            "0200a0d885573416 0100000008000000\n"
            "a0a1a2a3a4a5a6a7 07006f6c642e7478\n"
            "7400000000000000");
}

TEST(Record, ChecksumCoversTheWholeRecordAsTheFormatPageSays) {
  auto bytes = encoded(example());
  auto again = bytes;
  put(again, 8, uint64_t{0});
  reseal(again);
  EXPECT_EQ(bytes, again);
}

TEST(Record, EveryFlippedBitIsNamed) {
  const auto bytes = encoded(example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_NE(decode(flipped, Lsn{4096}).error, DecodeError::kNone) << "bit " << bit;
  }
}

TEST(Record, EveryCutIsNamed) {
  const auto bytes = encoded(example());
  for (size_t size = 0; size < bytes.size(); ++size) {
    // Copied, so that a read past the end is a read past the allocation.
    std::vector<std::byte> cut(bytes.begin(), bytes.begin() + long(size));
    const auto error = decode(cut, Lsn{4096}).error;
    EXPECT_EQ(error, size == 0 ? DecodeError::kEndOfLog : DecodeError::kTruncated) << size;
  }
}

TEST(Record, ZerosAreTheEndOfTheLog) {
  for (size_t size : {0, 1, 8, 71, 72, 1024, 4096}) {
    std::vector<std::byte> zeros(size);
    EXPECT_EQ(decode(zeros, Lsn{64}).error, DecodeError::kEndOfLog) << size;
  }
}

TEST(Record, RecordOfAnotherPositionIsRefused) {
  const auto bytes = encoded(example());
  EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kNone);
  EXPECT_EQ(decode(bytes, Lsn{4104}).error, DecodeError::kBadPosition);
  EXPECT_EQ(decode(bytes, Lsn{0}).error, DecodeError::kBadPosition);
}

TEST(Record, LengthsThatCannotBeAreRefused) {
  for (uint32_t length : {8u, 64u, 71u, 127u, 1025u, 1032u, 0x80000080u, UINT32_MAX}) {
    auto bytes = encoded(example());
    put(bytes, kLengthAt, length);
    bytes.resize(4096);
    EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadLength) << length;
  }
}

// What carries a right checksum and is still no record: made by another program.
TEST(Record, UnknownTypeOrFlagIsRefused) {
  auto bytes = encoded(example());
  put(bytes, kTypeAt, uint16_t(kLastRecordType + 1));
  reseal(bytes);
  EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadType);
  bytes = encoded(example());
  put(bytes, kFlagsAt, uint16_t{1});
  reseal(bytes);
  EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadType);
}

TEST(Record, NameAboveItsMaximumIsRefused) {
  constexpr size_t name_at = 72 + 16 + 16;  // header, parent, its handle of 8 bytes
  auto bytes = encoded(example());
  ASSERT_EQ(std::to_integer<int>(bytes[name_at]), 7);
  put(bytes, name_at, uint16_t(kMaxNameBytes + 1));
  bytes.resize(name_at + 264);
  put(bytes, kLengthAt, uint32_t(bytes.size()));
  reseal(bytes);
  EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadOperands);
}

TEST(Record, HandleAboveItsMaximumIsRefused) {
  constexpr size_t handle_at = 72 + 16;
  auto bytes = encoded(example());
  for (uint32_t size : {65u, 256u, 264u, UINT32_MAX}) {
    put(bytes, handle_at + 4, size);
    reseal(bytes);
    EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadOperands) << size;
  }
}

TEST(Record, OperandsThatDoNotFillTheLengthAreRefused) {
  auto bytes = encoded(example());
  bytes.resize(bytes.size() + 8);
  put(bytes, kLengthAt, uint32_t(bytes.size()));
  reseal(bytes);
  EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadOperands);
  bytes.resize(bytes.size() - 16);
  put(bytes, kLengthAt, uint32_t(bytes.size()));
  reseal(bytes);
  EXPECT_EQ(decode(bytes, Lsn{4096}).error, DecodeError::kBadOperands);
}

TEST(Record, PaddingFillsAnyAlignedRoom) {
  for (size_t size = kRecordHeaderBytes; size <= kMaxRecordBytes; size += kRecordAlignment) {
    std::vector<std::byte> room(size, std::byte{0xff});
    encode_padding(Lsn{4096}, room);
    Decoded d = decode(room, Lsn{4096});
    ASSERT_EQ(d.error, DecodeError::kNone) << size;
    EXPECT_EQ(d.record.type, RecordType::kPadding);
    EXPECT_EQ(d.size, size);
  }
}

TEST(Record, HalfWrittenRecordIsNoRecord) {
  // encode() writes the operands, then the header, then the checksum; whatever a
  // process had written when it was killed must not decode.
  const auto bytes = encoded(example());
  std::vector<std::byte> torn(bytes.size());
  std::copy(bytes.begin() + 72, bytes.end(), torn.begin() + 72);
  EXPECT_EQ(decode(torn, Lsn{4096}).error, DecodeError::kEndOfLog);
  std::copy(bytes.begin(), bytes.begin() + 8, torn.begin());
  std::copy(bytes.begin() + 16, bytes.begin() + 72, torn.begin() + 16);
  EXPECT_EQ(decode(torn, Lsn{4096}).error, DecodeError::kBadChecksum);
  put(torn, kLsnAt, uint64_t{0});
  EXPECT_EQ(decode(torn, Lsn{4096}).error, DecodeError::kBadChecksum);
}

TEST(Record, TypeNamesAreUniqueAndFoundAgain) {
  std::set<std::string> names;
  for (uint16_t type = 0; type <= kLastRecordType; ++type) {
    const char* name = type_name(static_cast<RecordType>(type));
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(type_by_name(name), static_cast<RecordType>(type));
  }
  EXPECT_STREQ(type_name(static_cast<RecordType>(kLastRecordType + 1)), "unknown");
  EXPECT_EQ(type_by_name("unknown"), std::nullopt);
}

TEST(RecordDeathTest, NameAboveItsMaximumAborts) {
  Record r = example();
  std::string longer(kMaxNameBytes + 1, 'n');
  r.name = longer;
  std::vector<std::byte> room(encoded_size(r));
  EXPECT_DEATH(encode(r, room), "broken invariant");
}

}  // namespace
}  // namespace epochfs::journal
