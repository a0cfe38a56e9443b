// Suspects: which files does a stopped machine leave whose bytes may be missing, although
// size and times vouch for them?
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/unit/journal/log/recovery_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

TEST_F(Recovery, StoppedMachineMakesSuspectsOfDataBehindWhatIsSettled) {
  open();
  append(1, 3);
  must(journal_->sync());
  must(journal_->note_settled(journal_->tail()));
  append(4, 6);
  append(4, 4);
  stop_machine();
  open();
  EXPECT_EQ(suspects_, range(4, 6)) << "each once";
  EXPECT_EQ(report_.suspects, 3u);
  stop_machine();
  open();
  EXPECT_EQ(suspects_, range(4, 6)) << "until they are settled";
  must(journal_->note_settled(journal_->tail()));
  stop_machine();
  open();
  EXPECT_TRUE(suspects_.empty());
  EXPECT_TRUE(report_.machine_stopped);
}

TEST_F(Recovery, KilledProcessAndCleanStopMakeNoSuspects) {
  open();
  append(1, 3);
  reopen();
  EXPECT_FALSE(report_.clean);
  EXPECT_TRUE(suspects_.empty());
  close();
  poke(volume_.path() + "/in-flight", 16, "another boot");
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_TRUE(suspects_.empty());
}

TEST_F(Recovery, OnlyRecordsOfDataMakeSuspects) {
  for (int type = 0; type <= kLastRecordType; ++type) {
    SCOPED_TRACE(type_name(RecordType(type)));
    must(Storage::system().remove_file("", volume_.dir(), "in-flight"));
    open();
    must(journal_->note_settled(journal_->tail()));
    Record r;
    r.type = RecordType(type);
    const bool none =
        r.type == RecordType::kPadding || r.type == RecordType::kSeal || r.type == RecordType::kGap;
    if (none) continue;
    r.file = {7, 1};
    const bool data = r.type == RecordType::kWrite || r.type == RecordType::kTruncate ||
                      r.type == RecordType::kAllocate || r.type == RecordType::kCreate ||
                      r.type == RecordType::kTemporary || r.type == RecordType::kUncertainName;
    ASSERT_NE(journal_->append(r), Lsn{0});
    stop_machine();
    open();
    EXPECT_EQ(report_.suspects, data ? 1u : 0u);
  }
}

TEST_F(Recovery, WhatWasInFlightIsSuspectToo) {
  open();
  append(1, 1);
  must(journal_->note_settled(journal_->tail()));
  fill_slot(write_of(9));
  stop_machine();
  open();
  EXPECT_EQ(suspects_, range(9, 9));
}

TEST_F(Recovery, SuspectsThatAreGoneOrRefuseAreToldApart) {
  open();
  append(1, 3);
  stop_machine();
  marks_ = false;
  open();
  EXPECT_EQ(report_.suspects, 0u);
  EXPECT_EQ(report_.suspects_unmarked, 0u);
  stop_machine();
  marks_ = fail("no", EROFS);
  open();
  EXPECT_EQ(report_.suspects, 0u);
  EXPECT_EQ(report_.suspects_unmarked, 3u);
}

// What was not recorded may have been compared and shipped all the same.
TEST_F(Recovery, RecordsThatWereMissingBeforeMakeAllSuspects) {
  open();
  append(1, 3);
  Record gap;
  gap.type = RecordType::kGap;
  gap.mode = uint32_t(GapReason::kJournalFull);
  journal_->append(gap);
  append(4, 5);
  stop_machine();
  open();
  EXPECT_TRUE(report_.all_suspect);
  EXPECT_EQ(suspects_.back(), 0u) << "all of them";
  stop_machine();
  marks_ = fail("no", EROFS);
  open();
  EXPECT_TRUE(report_.all_suspect);
  EXPECT_GE(report_.suspects_unmarked, 1u);
  must(journal_->note_settled(journal_->tail()));
  marks_ = true;
  stop_machine();
  open();
  EXPECT_FALSE(report_.all_suspect);
  stop_machine();
  open();
  EXPECT_FALSE(report_.all_suspect) << "what a stop left is on the disk";
}

TEST_F(Recovery, MissingOrDamagedMarkOfWhatIsSettledMakesAllSuspects) {
  const std::string mark = volume_.path() + "/settled";
  open();
  append(1, 3);
  const std::string good = [&] {
    must(journal_->note_settled(journal_->tail()));
    return read_whole_file(mark);
  }();
  auto suspects_with = [&](const std::string& bytes) {
    stop_machine();
    std::filesystem::remove(mark);
    if (!bytes.empty()) write_file(mark, bytes);
    open();
    return report_.suspects;
  };
  EXPECT_EQ(suspects_with(good), 0u);
  EXPECT_EQ(suspects_with(""), 3u);
  EXPECT_EQ(suspects_with(good + "x"), 3u);
  for (size_t i = 0; i < good.size(); ++i) {
    EXPECT_EQ(suspects_with(good.substr(0, i)), 3u) << "cut at " << i;
    std::string flipped = good;
    flipped[i] ^= 1;
    EXPECT_EQ(suspects_with(flipped), 3u) << "flipped at " << i;
  }
  EXPECT_EQ(read_whole_file(mark).size(), good.size()) << "made anew";
}

// Records that were lost behind it leave their positions to others.
TEST_F(Recovery, MarkBehindTheTailDoesNotCountForWhatComesThere) {
  open();
  append(1, 3);
  const Lsn tail = journal_->tail();
  must(journal_->note_settled(Lsn{value(tail) + 4096}));
  reopen();
  EXPECT_EQ(journal_->settled(), tail);
  append(7, 8);
  stop_machine();
  open();
  EXPECT_EQ(suspects_, range(7, 8));
}

TEST_F(Recovery, MarkWithinWhatPaddingFillsCountsForWhatIsBehindIt) {
  open();
  append(1, 1);
  std::vector<Lsn> at;
  for (uint64_t inode = 2; inode <= 40; ++inode) {
    Record r = write_of(inode);
    at.push_back(journal_->append(r));
  }
  // Of 3 to 38 nothing has reached the disk.
  for (size_t i = 1; i + 2 < at.size(); ++i) erase(at[i]);
  must(journal_->note_settled(at[20]));
  stop_machine();
  open();
  EXPECT_EQ(suspects_, range(39, 40));
  stop_machine();
  open();
  EXPECT_EQ(suspects_, range(39, 40)) << "read through the padding";
}

}  // namespace
}  // namespace epochfs::journal
