// In-flight slots: is every mutation that may have happened found after a crash,
// and none that cannot have?
#include "journal/log/in_flight.h"

#include <thread>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/records.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

constexpr size_t kHeader = kInFlightHeaderBytes, kBootIdAt = 16, kVersionAt = 8;

Record intent(uint64_t inode) {
  Record r;
  r.type = RecordType::kWrite;
  r.file = {inode, 1};
  r.range = {0, 10};
  return r;
}

class Slots : public ::testing::Test {
 protected:
  // As a new process finds it.
  std::unique_ptr<InFlight> open(InFlight::Found& found) {
    found = {};
    return must(InFlight::open(Storage::system(), volume_.dir(), found));
  }
  std::string file() const { return volume_.path() + "/in-flight"; }

  TemporaryDirectory dir_;
  Volume volume_ = make_volume(dir_);
  InFlight::Found found_;
};

TEST_F(Slots, NewFileHoldsNothing) {
  auto slots = open(found_);
  EXPECT_FALSE(found_.existed);
  EXPECT_TRUE(found_.intents.empty());
}

TEST_F(Slots, UnfinishedMountIsNotClean) {
  must(open(found_)->start());
  open(found_);
  EXPECT_TRUE(found_.existed);
  EXPECT_FALSE(found_.clean);
  EXPECT_TRUE(found_.same_boot);
}

TEST_F(Slots, FinishedMountIsClean) {
  auto slots = open(found_);
  must(slots->start());
  must(slots->finish());
  slots = open(found_);
  EXPECT_TRUE(found_.clean);
  must(slots->start());
  open(found_);
  EXPECT_FALSE(found_.clean);
}

TEST_F(Slots, CrashBeforeStartRepeatsWhatWasFound) {
  {
    auto slots = open(found_);
    must(slots->start());
    const Record r = intent(5);
    slots->claim()->fill({&r, 1});
    slots->set_records_lost(true);
  }
  for (int crash = 0; crash < 3; ++crash) {
    open(found_);
    ASSERT_EQ(found_.intents.size(), 1u);
    EXPECT_EQ(found_.intents[0].file.inode, 5u);
    EXPECT_TRUE(found_.records_lost);
  }
}

TEST_F(Slots, FilledSlotsAreFoundAndClearedOnesAreNot) {
  {
    auto slots = open(found_);
    must(slots->start());
    std::vector<InFlight::Slot*> claimed;
    for (uint64_t i = 0; i < 10; ++i) {
      claimed.push_back(slots->claim());
      const Record r = intent(i + 1);
      claimed.back()->fill({&r, 1});
    }
    for (size_t i = 0; i < 10; i += 2) claimed[i]->clear();
    slots->release(claimed[1]);
  }
  open(found_);
  EXPECT_EQ(found_.filled, 4u);
  ASSERT_EQ(found_.intents.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(found_.intents[i].file.inode, 4 + 2 * i);
  EXPECT_FALSE(found_.damaged);
}

TEST_F(Slots, WhatIsInOneCanBeSeen) {
  auto slots = open(found_);
  InFlight::Slot* slot = slots->claim();
  EXPECT_EQ(slot->peek(), std::nullopt);
  Record r = intent(7);
  r.type = RecordType::kUnlink;
  r.range = {};
  r.parent = {2, 1};
  r.name = "name";
  slot->fill({&r, 1});
  auto seen = slot->peek();
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->type, r.type);
  EXPECT_EQ(seen->file, r.file);
  EXPECT_EQ(seen->parent, r.parent);
  EXPECT_EQ(seen->name, "") << "names would point into the slot";
  slot->clear();
  EXPECT_EQ(slot->peek(), std::nullopt);
}

TEST_F(Slots, LargestIntentsComeBack) {
  Random random;
  std::vector<OwnedRecord> owned(kMaxIntents);
  {
    auto slots = open(found_);
    must(slots->start());
    std::vector<Record> intents;
    for (auto& o : owned) {
      fill_random(RecordType::kRename, random, o);
      o.name.assign(kMaxNameBytes, 'a');
      o.name2.assign(kMaxNameBytes, 'b');
      o.record.name = o.name;
      o.record.name2 = o.name2;
      o.record.handle = random.handle(FileHandle::kMaxBytes);
      o.record.parent_handle = random.handle(FileHandle::kMaxBytes);
      o.record.parent2_handle = random.handle(FileHandle::kMaxBytes);
      o.record.lsn = Lsn{0};
      intents.push_back(o.record);
    }
    slots->claim()->fill(intents);
  }
  open(found_);
  ASSERT_EQ(found_.intents.size(), kMaxIntents);
  EXPECT_EQ(found_.filled, 1u);
  for (size_t i = 0; i < kMaxIntents; ++i) EXPECT_TRUE(found_.intents[i] == owned[i].record);
}

TEST_F(Slots, EveryTypeOfIntentComesBack) {
  Random random;
  std::vector<std::unique_ptr<OwnedRecord>> owned;
  {
    auto slots = open(found_);
    must(slots->start());
    for (uint16_t type = 1; type <= kLastRecordType; ++type) {
      if (RecordType(type) == RecordType::kSeal || RecordType(type) == RecordType::kGap) continue;
      auto& o = *owned.emplace_back(std::make_unique<OwnedRecord>());
      fill_random(static_cast<RecordType>(type), random, o);
      slots->claim()->fill({&o.record, 1});
    }
  }
  open(found_);
  ASSERT_EQ(found_.intents.size(), owned.size());
  for (size_t i = 0; i < owned.size(); ++i) EXPECT_TRUE(found_.intents[i] == owned[i]->record);
}

TEST_F(Slots, StartClearsThem) {
  {
    auto slots = open(found_);
    must(slots->start());
    const Record r = intent(5);
    slots->claim()->fill({&r, 1});
  }
  must(open(found_)->start());
  open(found_);
  EXPECT_TRUE(found_.intents.empty());
}

TEST_F(Slots, AnotherBootIsNoticed) {
  must(open(found_)->start());
  poke(file(), kBootIdAt, "00000000");
  open(found_);
  EXPECT_TRUE(found_.existed);
  EXPECT_FALSE(found_.same_boot);
}

TEST_F(Slots, TornSlotIsNamed) {
  {
    auto slots = open(found_);
    must(slots->start());
    const Record r = intent(5);
    slots->claim()->fill({&r, 1});
  }
  poke(file(), kHeader + 8 + 40, "torn");
  open(found_);
  EXPECT_EQ(found_.filled, 1u);
  EXPECT_TRUE(found_.intents.empty());
  EXPECT_TRUE(found_.damaged);
}

// A seal in a slot would close an epoch that no barrier closed.
TEST_F(Slots, WhatIsNoMutationIsNoIntent) {
  for (RecordType type : {RecordType::kPadding, RecordType::kSeal, RecordType::kGap}) {
    {
      auto slots = open(found_);
      must(slots->start());
      Record r;
      r.type = type;
      r.file = {5, 1};
      slots->claim()->fill({&r, 1});
    }
    open(found_);
    EXPECT_TRUE(found_.intents.empty());
    EXPECT_TRUE(found_.damaged);
  }
}

TEST_F(Slots, MoreIntentsThanAMutationLeavesAreDamage) {
  auto slots = open(found_);
  must(slots->start());
  std::string bytes("\1\0\0\0\x20\1\0\0", 8);  // filled, 288 bytes
  for (int n = 0; n < 3; ++n) {
    auto record = encoded(intent(5));
    bytes.append(reinterpret_cast<const char*>(record.data()), record.size());
  }
  poke(file(), kHeader, bytes);
  open(found_);
  EXPECT_TRUE(found_.intents.empty());
  EXPECT_TRUE(found_.damaged);
}

TEST_F(Slots, AnyBytesInASlotAreSafe) {
  must(open(found_)->start());
  Random random;
  for (int round = 0; round < 200; ++round) {
    std::string bytes(kInFlightSlotBytes, '\0');
    for (char& c : bytes) c = static_cast<char>(random.u64());
    if (round % 2) std::memcpy(bytes.data(), "\1\0\0\0\xf8\x08\0", 8);  // filled, all of it
    poke(file(), kHeader + (round % kInFlightSlots) * kInFlightSlotBytes, bytes);
    open(found_);
    EXPECT_TRUE(found_.intents.empty());
  }
}

TEST_F(Slots, MarkOfLostRecordsOutlivesTheProcess) {
  {
    auto slots = open(found_);
    must(slots->start());
    EXPECT_FALSE(slots->records_lost());
    slots->set_records_lost(true);
  }
  auto slots = open(found_);
  EXPECT_TRUE(found_.records_lost);
  must(slots->start(true));
  EXPECT_TRUE(slots->records_lost());
  slots = open(found_);
  EXPECT_TRUE(found_.records_lost);
  must(slots->start());
  open(found_);
  EXPECT_FALSE(found_.records_lost);
}

TEST_F(Slots, NewerVersionIsRefused) {
  must(open(found_)->start());
  poke(file(), kVersionAt, std::string("\2\0\0\0", 4));
  InFlight::Found found;
  auto slots = InFlight::open(Storage::system(), volume_.dir(), found);
  ASSERT_FALSE(slots);
  EXPECT_EQ(slots.error().message(),
            "read in-flight slots: newer format version; use a newer epochfs");
}

TEST_F(Slots, NoVersionIsDamage) {
  must(open(found_)->start());
  poke(file(), kVersionAt, std::string(4, '\0'));
  InFlight::Found found;
  auto slots = InFlight::open(Storage::system(), volume_.dir(), found);
  ASSERT_FALSE(slots);
  EXPECT_EQ(slots.error().status, ExitStatus::kCorrupt);
  EXPECT_FALSE(look_at_in_flight(volume_.dir()));
}

TEST_F(Slots, OtherFileIsRefused) {
  write_file(file(), std::string(1 << 21, 'x'));
  InFlight::Found found;
  auto slots = InFlight::open(Storage::system(), volume_.dir(), found);
  ASSERT_FALSE(slots);
  EXPECT_EQ(slots.error().status, ExitStatus::kCorrupt);
}

TEST_F(Slots, ThereAreOnlySoMany) {
  auto slots = open(found_);
  must(slots->start());
  std::vector<InFlight::Slot*> claimed;
  while (InFlight::Slot* slot = slots->claim()) claimed.push_back(slot);
  EXPECT_EQ(claimed.size(), kInFlightSlots);
  slots->release(claimed[100]);
  EXPECT_EQ(slots->claim(), claimed[100]);
}

TEST_F(Slots, ThreadsHaveTheirOwn) {
  auto slots = open(found_);
  must(slots->start());
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        InFlight::Slot* slot = slots->claim();
        ASSERT_NE(slot, nullptr);
        const Record r = intent(t + 1);
        slot->fill({&r, 1});
        if (i < 499) slots->release(slot);  // the last one stays filled
      }
    });
  }
  for (auto& t : threads) t.join();
  slots.reset();
  open(found_);
  EXPECT_EQ(found_.filled, 8u);
  EXPECT_EQ(found_.intents.size(), 8u);
}

}  // namespace
}  // namespace epochfs::journal
