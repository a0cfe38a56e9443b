// Recovery at its edges: in-flight files that are damaged, clocks, counters.
#include <algorithm>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/unit/journal/log/recovery_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

// ---- in-flight files that are damaged ----

constexpr size_t kSlotsAt = kInFlightHeaderBytes;

// Whatever is left of it, the mutation that was under way is accounted for.
TEST_F(Recovery, InFlightFileCutAtAnyByteIsNamedOrLeavesAGap) {
  open();
  append(1, 3);
  fill_slot(write_of(9));
  kill();
  const std::string file = volume_.path() + "/in-flight";
  const std::string whole = read_whole_file(file);
  const std::string segment = read_whole_file(segment_file(0));
  std::vector<size_t> cuts;
  for (size_t n = 0; n < 64; ++n) cuts.push_back(n);
  for (size_t n = kSlotsAt - 2; n < kSlotsAt + 120; n += 5) cuts.push_back(n);
  cuts.insert(cuts.end(), {kSlotsAt + kInFlightSlotBytes, whole.size() / 2, whole.size() - 1});
  for (size_t cut : cuts) {
    write_file(file, whole.substr(0, cut));
    write_file(segment_file(0), segment);
    if (auto result = try_open(); !result) {
      EXPECT_EQ(result.error().status, ExitStatus::kCorrupt) << cut;
      EXPECT_LT(cut, 12u);
      continue;
    }
    auto records = read();
    EXPECT_EQ(gaps(records).size(), 1u) << "cut at " << cut;
    EXPECT_EQ(records[2].record.file.inode, 3u);
    kill();
  }
}

TEST_F(Recovery, FlippedBitInTheInFlightFileIsNamedOrAccountedFor) {
  open();
  append(1, 3);
  fill_slot(write_of(9));
  kill();
  const std::string file = volume_.path() + "/in-flight";
  const std::string head = read_whole_file(file).substr(0, kSlotsAt + kInFlightSlotBytes);
  const std::string records = read_whole_file(segment_file(0)).substr(0, 4096);
  auto flip = [&](size_t byte, int bit) {
    std::string flipped = head;
    flipped[byte] = char(flipped[byte] ^ 1 << bit);
    poke(file, 0, flipped);
    poke(segment_file(0), 0, records);
  };
  for (size_t byte = 0; byte < kSlotsAt + 8 + 96; byte = byte == 55 ? kSlotsAt : byte + 1) {
    for (int bit : {0, int(byte % 7) + 1}) {
      flip(byte, bit);
      if (auto result = try_open(); !result) {
        EXPECT_LT(byte, 12u) << "magic or version";
        continue;
      }
      auto records = read();
      const bool counted = std::ranges::count(inodes(records), 9u) == 1;
      // The bit that is set in the slot's own mark is the only one that nothing else tells of.
      const bool own_mark = byte == kSlotsAt && bit == 0;
      EXPECT_TRUE(own_mark || counted || !gaps(records).empty()) << byte << " bit " << bit;
      kill();
    }
  }
}

// ---- clocks and counters at their edges ----

TEST_F(Recovery, ClockThatWasSetBackChangesNothing) {
  open();
  std::vector<SealedEpoch> sealed;
  for (uint64_t segment : {1, 2, 3}) {
    append_into(segment);
    sealed.push_back(seal_and_publish());
  }
  append(next_, next_ + 5);
  close();
  const std::vector<uint64_t> before = inodes(read());
  rewrite_times([](const Record& r) { return UINT64_MAX - value(r.lsn); });
  for (bool manifest : {true, false}) {
    if (!manifest) std::filesystem::remove(volume_.path() + "/epochs");
    open();
    EXPECT_TRUE(report_.clean);
    EXPECT_FALSE(report_.damaged);
    EXPECT_EQ(journal_->open_epoch(), EpochId{4});
    auto epochs = must(read_epochs(volume_.dir()));
    ASSERT_EQ(epochs.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(epochs[i].begin, sealed[i].begin);
      EXPECT_EQ(epochs[i].seal, sealed[i].seal);
      EXPECT_EQ(epochs[i].records, sealed[i].records);
    }
    EXPECT_EQ(inodes(read()), before);
    close();
  }
}

TEST_F(Recovery, PositionsPassTwoToThe32) {
  begin_at((uint64_t{1} << 32) / kSegment - 1, EpochId{1});
  open();
  append_into((uint64_t{1} << 32) / kSegment + 1);
  const uint64_t last = next_ - 1;
  EXPECT_LT(value(lsns_[1]), uint64_t{1} << 32);
  EXPECT_GT(value(lsns_[last]), uint64_t{1} << 32);
  stop_machine();
  open();
  EXPECT_FALSE(report_.damaged);
  auto records = read();
  EXPECT_EQ(inodes(records), range(1, last));
  for (const Kept& k : records) {
    EXPECT_TRUE(!k.record.file || k.record.lsn == lsns_[k.record.file.inode]);
  }
  EXPECT_EQ(gaps(records), (std::vector{GapReason::kMachineStopped, GapReason::kMachineStopped}))
      << "the first since there was no in-flight file";
  EXPECT_TRUE(damage_.empty());
}

TEST_F(Recovery, PositionsEndBeforeTwoToThe63) {
  begin_at(kPositionLimit / kSegment - 1, EpochId{1});
  open();
  uint64_t n = 0;
  for (Record r = write_of(1); journal_->append(r) != Lsn{0}; r = write_of(n + 1)) {
    EXPECT_LT(value(r.lsn), kPositionLimit);
    ++n;
  }
  EXPECT_GT(n, 600u);
  EXPECT_EQ(inodes(read()), range(1, n));
  EXPECT_OK(journal_->close());
  kill();
  EXPECT_EQ(segments(), 1u);
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "open journal " + volume_.path() +
                                          ": it has used up all positions; move the folder away "
                                          "to begin a new one");
  EXPECT_EQ(inodes(read()), range(1, n));
}

TEST_F(Recovery, EpochsPassTwoToThe32) {
  constexpr uint64_t kEdge = uint64_t{1} << 32;
  begin_at(3, EpochId{kEdge - 2});
  open();
  EXPECT_EQ(journal_->open_epoch(), EpochId{kEdge - 1});
  for (uint64_t epoch = kEdge - 1; epoch <= kEdge + 1; ++epoch) {
    append(next_, next_);
    ++next_;
    const SealedEpoch sealed = epoch == kEdge ? journal_->seal() : seal_and_publish();
    EXPECT_EQ(sealed.epoch, EpochId{epoch});
    reopen();
    EXPECT_EQ(journal_->open_epoch(), EpochId{epoch + 1});
    EXPECT_EQ(must(read_last_epoch(volume_.dir())), sealed);
    EXPECT_EQ(must(read_epoch(volume_.dir(), EpochId{epoch})), sealed);
  }
  auto all = read_epochs(volume_.dir());
  ASSERT_FALSE(all) << "of the first there are none";
  EXPECT_EQ(all.error().message(), "read epoch manifest: entry of epoch 4294967233 is damaged")
      << "whole blocks of zeros were let go of";
}

TEST_F(Recovery, LargestNumbersOfFilesAndRangesComeBack) {
  open();
  const std::pair<uint64_t, ByteRange> rows[] = {
      {UINT64_MAX, {uint64_t(INT64_MAX) - 1, uint64_t(INT64_MAX)}},
      {uint64_t{1} << 63, {uint64_t(INT64_MAX), ByteRange::kEndOfFile}},
      {UINT32_MAX, {(uint64_t{1} << 32) - 1, (uint64_t{1} << 32) + 1}},
      {uint64_t{1} << 32, {UINT64_MAX - 1, UINT64_MAX}}};
  for (const auto& [inode, r] : rows) {
    Record record = write_of(inode, r.begin, r.end);
    record.file.birth_ns = UINT64_MAX;
    fill_slot(record);
    journal_->append(record);
  }
  reopen();
  auto records = read();
  ASSERT_EQ(records.size(), 2 * std::size(rows));
  for (size_t i = 0; i < records.size(); ++i) {
    const auto& [inode, r] = rows[i % std::size(rows)];
    EXPECT_EQ(records[i].record.file, (FileId{inode, UINT64_MAX}));
    EXPECT_EQ(records[i].record.range, r);
  }
}

}  // namespace
}  // namespace epochfs::journal
