// Recovery: how the last mount ended, what was under way, where the log ends. Rows of the
// decision table in journal/FORMAT.md; more in the other files of that name.
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"
#include "tests/unit/journal/log/recovery_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

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
  const std::string whole = read_whole_file(segment_file(0));
  for (uint64_t cut = value(lsns_[2]); cut <= value(lsns_[3]) + 96; ++cut) {
    write_file(segment_file(0), whole.substr(0, cut));
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
  write_file(segment_file(2), std::string(kSegment, '\0'));
  write_file(segment_file(3), "");
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
    must(JournalReader(volume).read_all(
        Lsn{0},
        [&](const Record& r) {
          found += r.type != RecordType::kPadding;
          return true;
        },
        &damage));
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
  poke_log(Lsn{2000}, std::string(5000, '\0'));             // in the middle
  poke_log(Lsn{kSegment - 4096}, std::string(4096, '\0'));  // at a segment's end
  poke(segment_file(2), 0, std::string(4096, '\0'));        // a header
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

}  // namespace
}  // namespace epochfs::journal
