// Recovery of epochs and segments: a manifest that lacks or damages entries, segments that
// are cut, missing or in the wrong place. Rows of the decision table in journal/FORMAT.md.
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/records.h"
#include "tests/unit/journal/log/recovery_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

TEST_F(Recovery, SealInTheLogThatTheManifestLacksIsListed) {
  open();
  append(1, 3);
  seal_and_publish();
  append(4, 5);
  const SealedEpoch second = journal_->seal();
  append(6, 6);
  const SealedEpoch third = journal_->seal();
  append(7, 9);
  reopen();
  auto epochs = must(read_epochs(volume_.dir()));
  ASSERT_EQ(epochs.size(), 3u);
  EXPECT_EQ(epochs[1], second);
  EXPECT_EQ(epochs[2], third);
  EXPECT_EQ(journal_->open_epoch(), EpochId{4});
  EXPECT_EQ(journal_->records_in_open_epoch(), 3u);
  EXPECT_EQ(seal_and_publish().begin, third.seal);
}

TEST_F(Recovery, TornManifestEntryIsWrittenAgain) {
  open();
  append(1, 3);
  seal_and_publish();
  append(4, 5);
  const SealedEpoch second = seal_and_publish();
  kill();
  for (size_t size = 64; size < 128; size += 9) {
    write_file(volume_.path() + "/epochs",
               read_whole_file(volume_.path() + "/epochs").substr(0, size));
    open();
    EXPECT_EQ(must(read_epochs(volume_.dir())).size(), 2u);
    EXPECT_EQ(must(read_last_epoch(volume_.dir())), second);
    kill();
  }
  poke(volume_.path() + "/epochs", 64 + 20, "torn");
  open();
  EXPECT_EQ(must(read_last_epoch(volume_.dir())), second);
}

TEST_F(Recovery, DamagedManifestIsRefused) {
  open();
  for (int i = 0; i < 3; ++i) {
    append(1, 3);
    seal_and_publish();
  }
  kill();
  poke(volume_.path() + "/epochs", 64 + 20, "both of the");
  poke(volume_.path() + "/epochs", 128 + 20, "newest ones");
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  EXPECT_EQ(result.error().message(), "read epoch manifest: entry of epoch 2 is damaged");
}

TEST_F(Recovery, LostManifestIsMadeAgainFromTheLog) {
  open();
  std::vector<SealedEpoch> sealed;
  for (int i = 0; i < 3; ++i) {
    append(1, 3);
    sealed.push_back(seal_and_publish());
  }
  append(1, 1);
  close();
  std::filesystem::remove(volume_.path() + "/epochs");
  open();
  EXPECT_EQ(must(read_epochs(volume_.dir())), sealed);
  EXPECT_EQ(journal_->open_epoch(), EpochId{4});
}

TEST_F(Recovery, LostManifestOfAReleasedBeginningKeepsTheNumbers) {
  open();
  std::vector<SealedEpoch> sealed;
  for (uint64_t i = 0; i < 6; ++i) {
    append_into(2 * i + 2);
    sealed.push_back(seal_and_publish());
  }
  must(journal_->note_settled(journal_->tail()));
  ASSERT_OK(journal_->release_up_to(sealed[4].epoch, kKeepFour));
  close();
  std::filesystem::remove(volume_.path() + "/epochs");
  open();
  auto epochs = must(read_epochs(volume_.dir()));
  ASSERT_EQ(epochs.size(), 6u);
  EXPECT_EQ(epochs[5], sealed[5]);
  EXPECT_EQ(epochs[4].seal, sealed[4].seal);
  EXPECT_EQ(journal_->open_epoch(), EpochId{7});
}

TEST_F(Recovery, LostSealEndsItsEpochWhereTheNextBegins) {
  open();
  append(1, 3);
  seal_and_publish();
  append(4, 5);
  const SealedEpoch second = journal_->seal();
  const SealedEpoch third = journal_->seal();
  append(6, 7);
  stop_machine();
  erase(second.seal);
  erase(third.seal);
  open();
  auto epochs = must(read_epochs(volume_.dir()));
  ASSERT_EQ(epochs.size(), 3u);
  EXPECT_EQ(epochs[1].seal, lsns_[6]);
  EXPECT_EQ(epochs[2].seal, lsns_[6]);
  EXPECT_EQ(journal_->open_epoch(), EpochId{4}) << "epochs never go back";
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kMachineStopped});
}

TEST_F(Recovery, NothingAtTheNewestSealLeavesAGap) {
  open();
  append(1, 3);
  const SealedEpoch first = seal_and_publish();
  close();
  std::filesystem::remove(segment_file(0));
  open();
  EXPECT_TRUE(report_.damaged);
  EXPECT_EQ(journal_->open_epoch(), EpochId{2});
  auto records = read(first.seal);
  EXPECT_EQ(gaps(records), std::vector{GapReason::kJournalDamaged});
  append(4, 4);
  reopen();
  EXPECT_EQ(inodes(read(first.seal)), std::vector<uint64_t>{4});
}

TEST_F(Recovery, EpochsThatCannotFollowEachOtherAreRefused) {
  open();
  append(1, 1);
  close();
  Record r = write_of(2);
  r.lsn = Lsn{value(lsns_[1]) + 96};
  r.epoch = EpochId{uint64_t{1} << 63};
  auto bytes = encoded(r);
  poke_log(r.lsn, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
}

// As no barrier of this journal wrote it.
TEST_F(Recovery, EntryThatEndsWhereNoRecordCanEndIsRefused) {
  open();
  append(1, 3);
  seal_and_publish();
  close();
  const std::string before = read_whole_file(segment_file(0));
  for (uint64_t seal :
       {value(lsns_[2]) + 8, value(lsns_[2]) + 4, kSegment + 8, uint64_t{1} << 63,
        (uint64_t{1} << 63) + kSegment, uint64_t(INT64_MAX) - 7, UINT64_MAX - 7, UINT64_MAX}) {
    put_entry({EpochId{1}, 1, Lsn{0}, Lsn{seal}, 1});
    auto result = try_open();
    if (seal == uint64_t(INT64_MAX) - 7) {  // the last position there is: nothing follows it
      ASSERT_FALSE(result);
      EXPECT_NE(result.error().message().find(volume_.path()), std::string::npos);
    } else {
      ASSERT_FALSE(result) << seal;
      EXPECT_EQ(result.error().status, ExitStatus::kCorrupt) << seal;
      EXPECT_EQ(result.error().message(),
                "recover journal " + volume_.path() +
                    ": its records and its epoch manifest do not belong together");
    }
    EXPECT_EQ(read_whole_file(segment_file(0)), before);
    EXPECT_EQ(segments(), 1u);
  }
}

TEST_F(Recovery, SealOfTheLastNumberThereIsIsRefused) {
  open();
  append(1, 1);
  close();
  Record r;
  r.type = RecordType::kSeal;
  r.lsn = Lsn{value(lsns_[1]) + 96};
  r.epoch = EpochId{UINT64_MAX};
  auto bytes = encoded(r);
  poke_log(r.lsn, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
}

TEST_F(Recovery, SegmentNumberBeyondAllPositionsIsRefused) {
  open();
  append(1, 3);
  close();
  const std::string segment = read_whole_file(segment_file(0));
  for (uint64_t index :
       {uint64_t{1} << 47, uint64_t{1} << 48, (uint64_t{1} << 48) + 1, UINT64_MAX}) {
    for (const std::string& bytes : {segment, std::string()}) {
      write_file(segment_file(index), bytes);
      auto result = try_open();
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().message(),
                "read segment " + segment_name(index) + ": its number is larger than any can be");
      std::filesystem::remove(segment_file(index));
    }
  }
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_EQ(inodes(read()), range(1, 3));
}

TEST_F(Recovery, SegmentCutWithinItsHeaderIsBegunAnew) {
  for (size_t left : {0, 1, 7, 8, 12, 63}) {
    open();
    append_into(value(journal_->statistics().tail) / kSegment + 1);
    const SealedEpoch sealed = seal_and_publish();
    append(next_, next_);
    close();
    std::filesystem::resize_file(segment_file(value(sealed.seal) / kSegment), left);
    open();
    EXPECT_TRUE(report_.damaged) << left;
    append(next_, next_);
    seal_and_publish();
    reopen();
    EXPECT_FALSE(report_.damaged) << left;
    EXPECT_EQ(inodes(read(sealed.seal)), std::vector<uint64_t>{next_}) << left;
    ++next_;
    close();
  }
}

TEST_F(Recovery, SegmentCutWithinItsHeaderBetweenOthersIsFilled) {
  open();
  append_into(3);
  stop_machine();
  std::filesystem::resize_file(segment_file(1), 10);
  open();
  EXPECT_TRUE(report_.machine_stopped);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kMachineStopped});
  EXPECT_TRUE(damage_.empty());
}

TEST_F(Recovery, NewerSegmentIsRefusedAndLeftAlone) {
  open();
  append(1, 1);
  close();
  poke(segment_file(0), 8, std::string("\2\0\0\0", 4));
  const std::string before = read_whole_file(segment_file(0));
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("use a newer epochfs"), std::string::npos);
  EXPECT_EQ(read_whole_file(segment_file(0)), before);
}

TEST_F(Recovery, SwappedSegmentsAreRefusedAndLeftAlone) {
  open();
  append_into(3);
  close();
  const std::string first = read_whole_file(segment_file(1)),
                    second = read_whole_file(segment_file(2));
  write_file(segment_file(1), second);
  write_file(segment_file(2), first);
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(),
            "read segment " + segment_name(1) + ": its number is not that of its name");
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  EXPECT_EQ(read_whole_file(segment_file(1)), second);
  EXPECT_EQ(read_whole_file(segment_file(2)), first);
}

TEST_F(Recovery, CopyOfASegmentIsRefusedAndLeftAlone) {
  open();
  append_into(4);
  close();
  const size_t before = segments();
  for (uint64_t as : {uint64_t{5}, uint64_t{7}}) {
    std::filesystem::copy_file(segment_file(3), segment_file(as),
                               std::filesystem::copy_options::overwrite_existing);
    auto result = try_open();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message(),
              "read segment " + segment_name(as) + ": its number is not that of its name");
    EXPECT_EQ(read_whole_file(segment_file(as)), read_whole_file(segment_file(3)));
    std::filesystem::remove(segment_file(as));
  }
  EXPECT_GE(before, segments());
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_FALSE(report_.damaged);
}

}  // namespace
}  // namespace epochfs::journal
