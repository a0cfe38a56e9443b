// Recovery: a test for each row of the decision table in journal/FORMAT.md.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <shared_mutex>
#include <thread>

#include "tests/unit/journal_support.h"

namespace epochfs {
namespace {

using namespace epochfs::testing;

class Recovery : public JournalTest {
 protected:
  // Appends one record for each inode; LSNs in lsns_.
  void append(uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
      Record r = write_of(i);
      ASSERT_NE(journal_->append(r), Lsn{0});
      lsns_[i] = r.lsn;
    }
  }
  // Appends until the tail stands in the given segment.
  void append_into(uint64_t segment) {
    while (value(journal_->statistics().tail) / kSegment < segment) {
      append(next_, next_);
      ++next_;
    }
  }
  static std::vector<uint64_t> range(uint64_t first, uint64_t last) {
    std::vector<uint64_t> out;
    for (uint64_t i = first; i <= last; ++i) out.push_back(i);
    return out;
  }

  std::map<uint64_t, Lsn> lsns_;
  uint64_t next_ = 1;
};

// ---- how the last mount ended ----

TEST_F(Recovery, CleanStopLeavesNothingToDo) {
  open();
  append(1, 5);
  close();
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_EQ(report_.records_read, 5u);
  EXPECT_EQ(report_.bytes_skipped, 0u);
  append(6, 7);
  EXPECT_EQ(inodes(read()), range(1, 7));
  EXPECT_TRUE(gaps(read()).empty());
}

TEST_F(Recovery, CleanStopAndARestartOfTheMachineLeaveNothingToDo) {
  open();
  append(1, 5);
  close();
  stop_machine();
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_FALSE(report_.machine_stopped);
  EXPECT_TRUE(gaps(read()).empty());
}

TEST_F(Recovery, KilledProcessLosesNothingThatWasAppended) {
  open();
  append(1, 5);
  reopen();
  EXPECT_FALSE(report_.clean);
  EXPECT_FALSE(report_.machine_stopped);
  EXPECT_FALSE(report_.damaged);
  append(6, 7);
  auto records = read();
  EXPECT_EQ(inodes(records), range(1, 7));
  EXPECT_TRUE(gaps(records).empty());
}

TEST_F(Recovery, StoppedMachineLeavesAGap) {
  open();
  append(1, 5);
  stop_machine();
  open();
  EXPECT_TRUE(report_.machine_stopped);
  auto records = read();
  EXPECT_EQ(gaps(records), std::vector{GapReason::kMachineStopped});
  EXPECT_EQ(records.back().record.type, RecordType::kGap);
  EXPECT_GT(journal_->records_in_open_epoch(), 5u);
  reopen();
  EXPECT_FALSE(report_.machine_stopped) << "once only";
}

// ---- suspects: bytes may be missing that size and times vouch for ----

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
    const bool none = r.type == RecordType::kPadding || r.type == RecordType::kSeal ||
                      r.type == RecordType::kGap;
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
    return read_all(mark);
  }();
  auto suspects_with = [&](const std::string& bytes) {
    stop_machine();
    std::filesystem::remove(mark);
    if (!bytes.empty()) write_all(mark, bytes);
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
  EXPECT_EQ(read_all(mark).size(), good.size()) << "made anew";
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

TEST_F(Recovery, KillAndThenAStoppedMachineLeaveAGap) {
  open();
  append(1, 5);
  kill();
  stop_machine();
  open();
  EXPECT_TRUE(report_.machine_stopped);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kMachineStopped});
}

TEST_F(Recovery, JournalInUseWithoutItsInFlightFileCountsAsAStoppedMachine) {
  open();
  append(1, 5);
  close();
  std::filesystem::remove(volume_.path() + "/in-flight");
  open();
  EXPECT_TRUE(report_.machine_stopped);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kMachineStopped});
}

TEST_F(Recovery, FirstMountThatWasCutShortLeavesNothingToDo) {
  storage_.failing_label = "in-flight-start";
  EXPECT_FALSE(try_open());
  kill();
  storage_.failing_label.clear();
  open();
  EXPECT_FALSE(report_.machine_stopped);
  EXPECT_FALSE(report_.damaged);
  EXPECT_TRUE(read().empty());
}

// ---- slots ----

TEST_F(Recovery, FilledSlotOfANameBecomesWhatTheNameHoldsNow) {
  FileHandle handle_of_parent;
  handle_of_parent.size = 8;
  handle_of_parent.bytes[0] = 9;
  lookup_ = [&](const FileHandle& parent, std::string_view name) {
    EXPECT_EQ(parent, handle_of_parent);
    NamedFile out;
    if (name == "there") {
      out.id = {77, 1};
      out.handle.size = 4;
    }
    return out;
  };
  for (RecordType type : {RecordType::kCreate, RecordType::kMakeDirectory, RecordType::kMakeNode,
                          RecordType::kSymlink, RecordType::kLink, RecordType::kUnlink,
                          RecordType::kRemoveDirectory}) {
    for (const char* name : {"there", "gone"}) {
      open();
      Record r = create_of(5, name);
      r.type = type;
      r.caller = {1, 2, 3};
      r.parent_handle = handle_of_parent;
      fill_slot(r);
      reopen();
      EXPECT_EQ(report_.slots_filled, 1u);
      auto records = read();
      const Record& found = records.back().record;
      EXPECT_EQ(found.type, RecordType::kUncertainName) << type_name(type);
      EXPECT_EQ(found.name, name);
      EXPECT_EQ(found.parent, r.parent);
      EXPECT_EQ(found.parent_handle, handle_of_parent);
      EXPECT_EQ(found.caller, r.caller);
      EXPECT_EQ(found.file, (std::string_view(name) == "there" ? FileId{77, 1} : FileId{}));
      EXPECT_EQ(journal_->open_epoch(), found.epoch);
      close();
    }
  }
}

TEST_F(Recovery, FilledSlotOfARenameMakesBothNamesUncertain) {
  lookup_ = [](const FileHandle&, std::string_view name) {
    return name == "to" ? NamedFile{{5, 1}, {}} : NamedFile{};
  };
  open();
  Record r = create_of(5, "from");
  r.type = RecordType::kRename;
  r.parent2 = {3, 1};
  r.name2 = "to";
  fill_slot(r);
  reopen();
  auto records = read();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].name, "from");
  EXPECT_EQ(records[0].record.file, FileId{});
  EXPECT_EQ(records[1].name, "to");
  EXPECT_EQ(records[1].record.parent, (FileId{3, 1}));
  EXPECT_EQ(records[1].record.file, (FileId{5, 1}));
}

TEST_F(Recovery, FilledSlotOfDataOrAttributesIsRecordedAsIfItHappened) {
  open();
  Record data = write_of(5, 100, 200);
  Record attributes = write_of(6);
  attributes.type = RecordType::kSetAttributes;
  attributes.range = {};
  attributes.mode = 3;
  fill_slot(data);
  fill_slot(attributes);
  reopen();
  auto records = read();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].record.type, RecordType::kWrite);
  EXPECT_EQ(records[0].record.range, (ByteRange{100, 200}));
  EXPECT_EQ(records[1].record.type, RecordType::kSetAttributes);
  EXPECT_EQ(records[1].record.mode, 3u);
}

TEST_F(Recovery, FilledSlotOfANamelessFileIsForgotten) {
  open();
  Record r;
  r.type = RecordType::kTemporary;  // its identity would have come with the system call
  fill_slot(r);
  reopen();
  EXPECT_TRUE(read().empty());
}

TEST_F(Recovery, SlotsAreClearAfterwards) {
  open();
  fill_slot(write_of(5));
  reopen();
  reopen();
  EXPECT_EQ(report_.slots_filled, 0u);
  EXPECT_EQ(inodes(read()), std::vector<uint64_t>{5});
}

TEST_F(Recovery, TornSlotLeavesAGap) {
  open();
  fill_slot(write_of(5));
  kill();
  poke(volume_.path() + "/in-flight", 4096 + 8 + 40, "torn");
  open();
  EXPECT_TRUE(report_.damaged);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kJournalDamaged});
}

// ---- the end of the log ----

TEST_F(Recovery, TornTailIsClearedAndWrittenOver) {
  open();
  append(1, 3);
  kill();
  const Lsn end{value(lsns_[3]) + 96};
  poke_log(end, std::string(500, '\xff'));
  poke_log(Lsn{value(end) + 3000}, "remains of another writer");
  open();
  EXPECT_EQ(report_.bytes_skipped, 3025u);
  EXPECT_FALSE(report_.damaged);
  append(4, 4);
  EXPECT_EQ(lsns_[4], end);
  EXPECT_EQ(inodes(read()), range(1, 4));
  EXPECT_TRUE(damage_.empty());
}

TEST_F(Recovery, LogCutAtEveryByteOfItsLastRecordsGoesOn) {
  open();
  append(1, 3);
  kill();
  const std::string whole = read_all(segment_file(0));
  for (uint64_t cut = value(lsns_[2]); cut <= value(lsns_[3]) + 96; ++cut) {
    write_all(segment_file(0), whole.substr(0, cut));
    open();
    const uint64_t left = cut < value(lsns_[3]) ? 1 : cut < value(lsns_[3]) + 96 ? 2 : 3;
    append(10, 10);
    auto expected = range(1, left);
    expected.push_back(10);
    ASSERT_EQ(inodes(read()), expected) << "cut at " << cut;
    EXPECT_TRUE(damage_.empty());
    kill();
  }
}

TEST_F(Recovery, SegmentPreparedAheadIsNotTheTail) {
  open();
  append_into(1);
  write_all(segment_file(2), std::string(kSegment, '\0'));
  write_all(segment_file(3), "");
  const uint64_t last = next_ - 1;
  reopen();
  append(next_, next_);
  EXPECT_EQ(value(lsns_[next_]) / kSegment, 1u);
  EXPECT_EQ(inodes(read()), range(1, last + 1));
  EXPECT_TRUE(damage_.empty());
}

TEST_F(Recovery, TailAtEveryDistanceFromTheEndOfASegmentGoesOn) {
  for (uint64_t left = 0; left <= 200; left += 8) {
    TemporaryDirectory dir;
    Volume volume = make_volume(dir, kSegment);
    auto journal = must(Journal::open(storage_, volume, lookup_, report_));
    // Records of 72, 88 and 96 bytes add up to any multiple of eight.
    uint64_t n = 0;
    auto tail = [&] { return value(journal->statistics().tail); };
    Record seal, attributes, w = write_of(1);
    seal.type = RecordType::kSeal;
    attributes.type = RecordType::kSetAttributes;
    while (kSegment - tail() > left + 3000) journal->append(w), ++n;
    for (int a = 0; a < 9; ++a) {
      for (int b = 0; b < 9; ++b) {
        const uint64_t rest = kSegment - tail() - left;
        if (rest < uint64_t(88 * a + 96 * b) || (rest - 88 * a - 96 * b) % 72 != 0) continue;
        for (int i = 0; i < a; ++i) journal->append(attributes), ++n;
        for (int i = 0; i < b; ++i) journal->append(w), ++n;
        a = b = 9;
      }
    }
    while (kSegment - tail() > left) journal->append(seal), ++n;
    ASSERT_EQ(kSegment - tail(), left);
    journal.reset();
    journal = must(Journal::open(storage_, volume, lookup_, report_));
    ASSERT_EQ(tail(), kSegment - left);
    Record large = create_of(7, std::string_view("a name that needs some room, and more"));
    ASSERT_NE(journal->append(large), Lsn{0});
    std::vector<Damage> damage;
    uint64_t found = 0;
    must(JournalReader(volume).read_all(Lsn{0}, [&](const Record& r) {
      found += r.type != RecordType::kPadding;
      return true;
    }, &damage));
    EXPECT_EQ(found, n + 1) << left;
    EXPECT_TRUE(damage.empty()) << left;
    journal.reset();
    journal = must(Journal::open(storage_, volume, lookup_, report_));
    EXPECT_FALSE(report_.damaged) << left;
  }
}

// ---- holes ----

TEST_F(Recovery, HoleOfAKilledWriterIsFilledAndItsIntentCounts) {
  open();
  append(1, 2);
  fill_slot(write_of(3));
  append(3, 5);
  kill();
  erase(lsns_[3]);
  open();
  EXPECT_FALSE(report_.damaged);
  EXPECT_FALSE(report_.machine_stopped);
  EXPECT_EQ(report_.bytes_skipped, 96u);
  auto records = read();
  EXPECT_EQ(inodes(records), (std::vector<uint64_t>{1, 2, 4, 5, 3}));
  EXPECT_TRUE(gaps(records).empty());
  EXPECT_TRUE(damage_.empty()) << "padding stands there now";
  reopen();
  EXPECT_EQ(report_.bytes_skipped, 0u);
}

TEST_F(Recovery, WriterKilledBeforeItsPaddingIsNoDamage) {
  open();
  fill_slot(write_of(1));
  append_into(1);
  append(next_, next_ + 1);
  const uint64_t last = next_ + 1;
  kill();
  // The last bytes of the first segment, and the writer's record in the second.
  const uint64_t end = value(lsns_[next_ - 2]) + 96;
  ASSERT_LT(end, kSegment);
  const bool padded = kSegment - end >= kRecordHeaderBytes;
  poke_log(Lsn{end}, std::string(kSegment - end, '\0'));
  erase(lsns_[next_ - 1]);
  open();
  EXPECT_FALSE(report_.damaged) << padded;
  auto expected = range(1, last);
  expected.erase(expected.begin() + long(next_) - 2);
  expected.push_back(1);
  EXPECT_EQ(inodes(read()), expected);
  EXPECT_TRUE(damage_.empty());
}

TEST_F(Recovery, HoleThatNoSlotExplainsLeavesAGap) {
  open();
  append(1, 5);
  kill();
  erase(lsns_[3]);
  open();
  EXPECT_TRUE(report_.damaged);
  auto records = read();
  EXPECT_EQ(gaps(records), std::vector{GapReason::kJournalDamaged});
  EXPECT_EQ(inodes(records), (std::vector<uint64_t>{1, 2, 4, 5}));
  ASSERT_EQ(damage_.size(), 1u) << "the evidence stays";
  EXPECT_EQ(damage_[0].at, lsns_[3]);
}

TEST_F(Recovery, FlippedBitAfterACleanStopLeavesAGap) {
  open();
  append(1, 5);
  close();
  poke_log(Lsn{value(lsns_[3]) + 90}, "!");
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_TRUE(report_.damaged);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kJournalDamaged});
  EXPECT_EQ(damage_.size(), 1u);
}

TEST_F(Recovery, MissingSegmentLeavesAGap) {
  open();
  append_into(3);
  close();
  std::filesystem::remove(segment_file(1));
  open();
  EXPECT_TRUE(report_.damaged);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kJournalDamaged});
  EXPECT_EQ(damage_.size(), 1u);
}

TEST_F(Recovery, HolesOfAStoppedMachineAreFilled) {
  open();
  append_into(3);
  stop_machine();
  poke_log(Lsn{2000}, std::string(5000, '\0'));         // in the middle
  poke_log(Lsn{kSegment - 4096}, std::string(4096, '\0'));  // at a segment's end
  poke(segment_file(2), 0, std::string(4096, '\0'));     // a header
  open();
  EXPECT_TRUE(report_.machine_stopped);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kMachineStopped});
  EXPECT_TRUE(damage_.empty());
  reopen();
  EXPECT_EQ(report_.bytes_skipped, 0u);
}

TEST_F(Recovery, RecordsInASegmentThatLostItsHeaderNeverComeBack) {
  open();
  append_into(2);
  const uint64_t last_before = [&] {
    uint64_t n = 0;
    for (const auto& [inode, lsn] : lsns_) n = value(lsn) < kSegment ? inode : n;
    return n;
  }();
  std::filesystem::remove(segment_file(2));
  stop_machine();
  poke(segment_file(1), 0, std::string(4096, '\0'));
  open();
  append(5000, 5000);
  auto expected = range(1, last_before);
  expected.push_back(5000);
  EXPECT_EQ(inodes(read()), expected);
  EXPECT_TRUE(damage_.empty());
}

// ---- epochs ----

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
    write_all(volume_.path() + "/epochs",
              read_all(volume_.path() + "/epochs").substr(0, size));
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
  const std::string before = read_all(segment_file(0));
  for (uint64_t seal : {value(lsns_[2]) + 8, value(lsns_[2]) + 4, kSegment + 8, uint64_t{1} << 63,
                        (uint64_t{1} << 63) + kSegment, uint64_t(INT64_MAX) - 7,
                        UINT64_MAX - 7, UINT64_MAX}) {
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
    EXPECT_EQ(read_all(segment_file(0)), before);
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
  const std::string segment = read_all(segment_file(0));
  for (uint64_t index : {uint64_t{1} << 47, uint64_t{1} << 48, (uint64_t{1} << 48) + 1,
                         UINT64_MAX}) {
    for (const std::string& bytes : {segment, std::string()}) {
      write_all(segment_file(index), bytes);
      auto result = try_open();
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().message(), "read segment " + segment_name(index) +
                                              ": its number is larger than any can be");
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
  const std::string before = read_all(segment_file(0));
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("use a newer epochfs"), std::string::npos);
  EXPECT_EQ(read_all(segment_file(0)), before);
}

TEST_F(Recovery, SwappedSegmentsAreRefusedAndLeftAlone) {
  open();
  append_into(3);
  close();
  const std::string first = read_all(segment_file(1)), second = read_all(segment_file(2));
  write_all(segment_file(1), second);
  write_all(segment_file(2), first);
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(),
            "read segment " + segment_name(1) + ": its number is not that of its name");
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  EXPECT_EQ(read_all(segment_file(1)), second);
  EXPECT_EQ(read_all(segment_file(2)), first);
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
    EXPECT_EQ(read_all(segment_file(as)), read_all(segment_file(3)));
    std::filesystem::remove(segment_file(as));
  }
  EXPECT_GE(before, segments());
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_FALSE(report_.damaged);
}

// ---- in-flight files that are damaged ----

// Whatever is left of it, the mutation that was under way is accounted for.
TEST_F(Recovery, InFlightFileCutAtAnyByteIsNamedOrLeavesAGap) {
  open();
  append(1, 3);
  fill_slot(write_of(9));
  kill();
  const std::string file = volume_.path() + "/in-flight";
  const std::string whole = read_all(file);
  const std::string segment = read_all(segment_file(0));
  std::vector<size_t> cuts;
  for (size_t n = 0; n < 64; ++n) cuts.push_back(n);
  for (size_t n = 4096 - 2; n < 4096 + 120; n += 5) cuts.push_back(n);
  cuts.insert(cuts.end(), {4096 + kInFlightSlotBytes, whole.size() / 2, whole.size() - 1});
  for (size_t cut : cuts) {
    write_all(file, whole.substr(0, cut));
    write_all(segment_file(0), segment);
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
  const std::string head = read_all(file).substr(0, 4096 + kInFlightSlotBytes);
  const std::string records = read_all(segment_file(0)).substr(0, 4096);
  auto flip = [&](size_t byte, int bit) {
    std::string flipped = head;
    flipped[byte] = char(flipped[byte] ^ 1 << bit);
    poke(file, 0, flipped);
    poke(segment_file(0), 0, records);
  };
  for (size_t byte = 0; byte < 4096 + 8 + 96; byte = byte == 55 ? 4096 : byte + 1) {
    for (int bit : {0, int(byte % 7) + 1}) {
      flip(byte, bit);
      if (auto result = try_open(); !result) {
        EXPECT_LT(byte, 12u) << "magic or version";
        continue;
      }
      auto records = read();
      const bool counted = std::ranges::count(inodes(records), 9u) == 1;
      // The bit that is set in the slot's own mark is the only one that nothing else tells of.
      const bool own_mark = byte == 4096 && bit == 0;
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

// ---- recovery that is itself cut short ----

TEST_F(Recovery, FailureAtEveryStorageCallIsRepeatable) {
  for (int failing = 0;; ++failing) {
    TemporaryDirectory dir;
    Volume volume = make_volume(dir, kSegment);
    FailingStorage storage;
    auto journal = must(Journal::open(storage, volume, lookup_, report_));
    Lsn hole{};
    for (uint64_t i = 1; i <= 1500; ++i) {
      Record r = write_of(i);
      journal->append(r);
      if (i == 500) must(journal->publish(journal->seal()));
      if (i == 700) hole = r.lsn;
      if (i == 1000) journal->seal();  // not published
    }
    const Record unfinished = write_of(700);
    journal->in_flight().claim()->fill({&unfinished, 1});
    journal.reset();
    poke(dir / "volume/segments/" + segment_name(value(hole) / kSegment),
         value(hole) % kSegment, std::string(96, '\0'));

    storage.calls_until_failure = failing;
    RecoveryReport report;
    auto failed = Journal::open(storage, volume, lookup_, report);
    const bool all_done = failed.has_value();
    if (failed) failed->reset();
    storage.calls_until_failure = -1;
    report = {};
    journal = must(Journal::open(storage, volume, lookup_, report));
    EXPECT_FALSE(report.damaged) << failing;

    std::map<uint64_t, int> times;
    std::vector<Damage> damage;
    must(JournalReader(volume).read_all(Lsn{0}, [&](const Record& r) {
      if (r.type == RecordType::kWrite) ++times[r.file.inode];
      return true;
    }, &damage));
    EXPECT_TRUE(damage.empty()) << failing;
    for (uint64_t i = 1; i <= 1500; ++i) ASSERT_GE(times[i], 1) << failing;
    auto epochs = must(read_epochs(volume.dir()));
    EXPECT_EQ(epochs.size(), 2u) << failing;
    EXPECT_EQ(journal->open_epoch(), EpochId{3});
    if (all_done) {
      EXPECT_GT(failing, 5);
      break;
    }
  }
}

// ---- kill -9 of a process that appends ----

struct Ack {
  enum Kind : uint64_t { kAppended, kSlotFilled, kPublished } kind;
  uint64_t number;  // inode or epoch
  uint64_t lsn;
};

void acknowledge(int pipe, Ack ack) {
  if (::write(pipe, &ack, sizeof ack) != ssize_t(sizeof ack)) ::_exit(3);
}

// Appends from threads, seals now and then, and never ends by itself.
[[noreturn]] void append_until_killed(const std::string& path, int pipe, uint64_t round) {
  constexpr uint64_t kThreads = 4;
  Volume volume = must(Volume::open(path));
  if (!must(volume.lock())) ::_exit(4);
  RecoveryReport report;
  auto journal = must(Journal::open(
      Storage::system(), volume, [](auto&&...) { return NamedFile{}; }, report));

  InFlight::Slot* stuck = journal->in_flight().claim();
  Record unfinished;
  unfinished.type = RecordType::kCreate;
  unfinished.parent = {2, 1};
  const std::string name = "unfinished " + std::to_string(round);
  unfinished.name = name;
  stuck->fill({&unfinished, 1});
  acknowledge(pipe, {Ack::kSlotFilled, round, 0});

  std::shared_mutex barrier;
  std::atomic<bool> closing{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      InFlight::Slot* slot = journal->in_flight().claim();
      std::string file_name;
      for (uint64_t i = 0;; ++i) {
        while (closing) std::this_thread::yield();
        const uint64_t inode = round << 48 | t << 40 | i;
        Record r;
        {
          std::shared_lock inside(barrier);
          file_name.assign(1 + i % kMaxNameBytes, static_cast<char>('a' + t));
          r.type = i % 2 ? RecordType::kCreate : RecordType::kWrite;
          r.file = {inode, 1};
          r.range = i % 2 ? ByteRange{} : ByteRange{i, i + 1};
          if (i % 2) r.parent = {2, 1}, r.name = file_name;
          slot->fill({&r, 1});
          if (journal->append(r) == Lsn{0}) ::_exit(5);
          slot->clear();
        }
        acknowledge(pipe, {Ack::kAppended, inode, value(r.lsn)});
      }
    });
  }
  for (;;) {
    closing = true;
    SealedEpoch sealed;
    {
      std::unique_lock outside(barrier);
      sealed = journal->seal();
    }
    closing = false;
    must(journal->publish(sealed));
    acknowledge(pipe, {Ack::kPublished, value(sealed.epoch), value(sealed.seal)});
  }
}

TEST_F(Recovery, WhateverAKilledProcessAcknowledgedIsThere) {
  constexpr uint64_t kRounds = 12;
  lookup_ = [](const FileHandle&, std::string_view name) {
    return name.starts_with("unfinished") ? NamedFile{{99, 9}, {}} : NamedFile{};
  };
  Random random;
  std::map<uint64_t, uint64_t> appended;   // inode -> LSN
  std::map<uint64_t, uint64_t> published;  // epoch -> LSN of its seal
  for (uint64_t round = 1; round <= kRounds; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(ends[0]);
      append_until_killed(volume_.path(), ends[1], round);
    }
    ::close(ends[1]);
    uint64_t acks_left = 200 + random.below(4000);
    bool slot_filled = false;
    Ack ack;
    while (::read(ends[0], &ack, sizeof ack) == ssize_t(sizeof ack)) {
      if (ack.kind == Ack::kAppended) appended[ack.number] = ack.lsn;
      if (ack.kind == Ack::kPublished) published[ack.number] = ack.lsn;
      if (ack.kind == Ack::kSlotFilled) slot_filled = true;
      if (acks_left != 0 && --acks_left == 0) ::kill(child, SIGKILL);  // and read on to the end
    }
    ::close(ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;

    open();
    EXPECT_FALSE(report_.clean);
    EXPECT_FALSE(report_.machine_stopped);
    EXPECT_FALSE(report_.damaged);
    EXPECT_TRUE(slot_filled);
    EXPECT_GE(report_.slots_filled, 1u);
    auto records = read();
    EXPECT_TRUE(damage_.empty());
    std::map<uint64_t, const Kept*> by_lsn;
    bool uncertain = false;
    for (const Kept& k : records) {
      by_lsn[value(k.record.lsn)] = &k;
      uncertain |= k.record.type == RecordType::kUncertainName &&
                   k.name == "unfinished " + std::to_string(round) &&
                   k.record.file == FileId{99, 9};
    }
    EXPECT_TRUE(uncertain) << "a filled slot becomes an uncertain record";
    for (const auto& [inode, lsn] : appended) {
      ASSERT_TRUE(by_lsn.count(lsn)) << "acknowledged and not there";
      const Kept& k = *by_lsn[lsn];
      const uint64_t t = inode >> 40 & 0xff, i = inode & ((uint64_t{1} << 40) - 1);
      ASSERT_EQ(k.record.file.inode, inode);
      if (i % 2) {
        ASSERT_EQ(k.name, std::string(1 + i % kMaxNameBytes, static_cast<char>('a' + t)));
      } else {
        ASSERT_EQ(k.record.range, (ByteRange{i, i + 1}));
      }
    }
    for (const auto& [epoch, lsn] : published) {
      auto entry = must(read_epoch(volume_.dir(), EpochId{epoch}));
      ASSERT_TRUE(entry);
      ASSERT_EQ(value(entry->epoch), epoch);
      ASSERT_EQ(value(entry->seal), lsn);
    }
    EXPECT_TRUE(gaps(records).empty());
    round % 2 ? kill() : close();
  }
}

// ---- power loss ----

// Drops a random part of what was not synced, by page or by sector.
TEST_F(Recovery, PowerLossNeverInventsLosesNothingSyncedAndIsNoticed) {
  constexpr uint64_t kPage = 4096, kSector = 512;
  Random random;
  for (int round = 0; round < 40; ++round) {
    TemporaryDirectory dir;
    Volume volume = make_volume(dir, kSegment);
    auto journal = must(Journal::open(storage_, volume, lookup_, report_));
    std::map<Lsn, uint64_t> appended;
    uint64_t inode = 0;
    Lsn synced{kSegmentHeaderBytes};
    const uint64_t steps = 1 + random.below(3000);
    for (uint64_t i = 0; i < steps; ++i) {
      Record r = write_of(++inode);
      ASSERT_NE(journal->append(r), Lsn{0});
      appended[r.lsn] = inode;
      if (random.one_in(700)) {
        must(journal->sync());
        synced = journal->statistics().tail;
      }
      if (random.one_in(300)) {
        must(journal->publish(journal->seal()));
        synced = journal->statistics().tail;
      }
    }
    // One seal that was not published.
    if (random.one_in(2)) {
      journal->seal();
      for (int i = 0; i < 20; ++i) {
        Record r = write_of(++inode);
        journal->append(r);
        appended[r.lsn] = inode;
      }
    }
    const uint64_t tail = value(journal->statistics().tail);
    journal.reset();
    poke(dir / "volume/in-flight", 16, "another boot");
    const uint64_t unit = random.one_in(2) ? kPage : kSector;
    const uint64_t chance = 1 + random.below(6);
    for (uint64_t at = value(synced) / unit * unit; at < tail; at += unit) {
      if (!random.one_in(chance)) continue;
      // The older version of a unit that a sync has covered in part is what it was then.
      const uint64_t from = std::max(at, value(synced)), to = at + unit;
      poke(dir / "volume/segments/" + segment_name(at / kSegment), from % kSegment,
           std::string(to - from, '\0'));
    }

    RecoveryReport report;
    journal = must(Journal::open(storage_, volume, lookup_, report));
    EXPECT_TRUE(report.machine_stopped);
    auto check = [&](size_t expected_gaps) {
      std::vector<Damage> damage;
      size_t gaps = 0;
      EpochId newest{};
      std::map<Lsn, uint64_t> found;
      must(JournalReader(volume).read_all(Lsn{0}, [&](const Record& r) {
        if (r.type == RecordType::kPadding) return true;
        EXPECT_GE(r.epoch, newest);
        newest = r.epoch;
        gaps += r.type == RecordType::kGap;
        if (r.type != RecordType::kWrite) return true;
        found[r.lsn] = r.file.inode;
        EXPECT_TRUE(appended.count(r.lsn) && appended[r.lsn] == r.file.inode) << "invented";
        return true;
      }, &damage));
      EXPECT_TRUE(damage.empty());
      EXPECT_EQ(gaps, expected_gaps);
      for (const auto& [lsn, inode] : appended) {
        if (lsn >= synced) break;
        EXPECT_TRUE(found.count(lsn)) << "synced and lost: " << value(lsn);
      }
    };
    check(1);
    auto epochs = must(read_epochs(volume.dir()));
    EXPECT_EQ(value(journal->open_epoch()), epochs.size() + 1);

    // Life goes on over whatever stood there.
    synced = journal->statistics().tail;
    std::erase_if(appended, [&](const auto& entry) { return entry.first >= synced; });
    std::vector<Lsn> lsns;
    std::set<Lsn> kept;
    must(JournalReader(volume).read_all(Lsn{0}, [&](const Record& r) {
      if (r.type == RecordType::kWrite) kept.insert(r.lsn);
      return true;
    }, nullptr));
    std::erase_if(appended, [&](const auto& entry) { return !kept.count(entry.first); });
    for (int i = 0; i < 1500; ++i) {
      Record r = write_of(++inode);
      ASSERT_NE(journal->append(r), Lsn{0});
      appended[r.lsn] = inode;
    }
    must(journal->publish(journal->seal()));
    synced = journal->statistics().tail;
    journal.reset();
    report = {};
    journal = must(Journal::open(storage_, volume, lookup_, report));
    EXPECT_FALSE(report.machine_stopped);
    EXPECT_FALSE(report.damaged);
    EXPECT_EQ(report.bytes_skipped, 0u);
    check(1);
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace epochfs
