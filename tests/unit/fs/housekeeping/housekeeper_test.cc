// Housekeeper: does it let go of what nobody needs, keep what somebody does, and give up
// only what the room asks for? Rounds are made by hand, but for one test.
#include "fs/housekeeping/housekeeper.h"

#include <fmt/format.h>

#include "journal/changes/fold_epochs.h"
#include "tests/support/expect.h"
#include "tests/unit/fs/mount_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;
using namespace std::chrono_literals;

class HousekeeperTest : public MountedJournalTest {
 protected:
  void write(uint64_t inode, uint64_t page = 0) {
    const journal::Record r = write_of(inode, page * 4096, page * 4096 + 1);
    const Touched touched[] = {{.id = r.file, .data = r.range}};
    Recorder::Mutation mutation(*recorder_, worker_, r, touched);
    mutation.commit();
  }
  void fill_segments(size_t n) {
    for (size_t i = 0; i < n * kSegment / 100; ++i) write(7);
  }
  void come_and_go(const char* name) {
    for (journal::RecordType type : {journal::RecordType::kCreate, journal::RecordType::kUnlink}) {
      journal::Record r = create_of(9, name);
      r.type = type;
      Recorder::Mutation mutation(*recorder_, worker_, r, {});
      mutation.commit();
    }
  }
  uint64_t barrier() { return value(must(recorder_->barrier(false, 1s)).epoch); }
  void cursor(const char* id, uint64_t epoch, bool walk = false) {
    must(journal::write_cursor(storage_, volume_.dir(), id, {EpochId{epoch}, walk}));
    must(housekeeper_->cursors_changed());
  }
  Pressure pressure() { return housekeeper_->status().pressure; }
};

TEST_F(HousekeeperTest, SealsAnEpochThatGrowsPastASegment) {
  must(housekeeper_->pass());
  EXPECT_EQ(journal_->open_epoch(), EpochId{1});
  write(7);
  must(housekeeper_->pass());
  EXPECT_EQ(journal_->open_epoch(), EpochId{1}) << "too little to be worth it";
  fill_segments(2);
  must(housekeeper_->pass());
  EXPECT_EQ(journal_->open_epoch(), EpochId{2});
}

TEST_F(HousekeeperTest, WithoutRelationshipsNothingIsNeeded) {
  for (int i = 0; i < 5; ++i) {
    fill_segments(2);
    must(housekeeper_->pass());
  }
  EXPECT_LE(segments(), 3u);
  EXPECT_TRUE(checkpoints_->all().empty());
}

TEST_F(HousekeeperTest, WhatACursorNeedsStaysAndItsRecordsNeedNot) {
  write(8);
  const uint64_t since = barrier();
  cursor("abc", since);
  write(9);
  for (int i = 0; i < 5; ++i) {
    fill_segments(2);
    must(housekeeper_->pass());
  }
  EXPECT_LE(segments(), 3u);
  EXPECT_GE(checkpoints_->all().size(), 1u);
  const uint64_t until = barrier();
  journal::ChangeSet set = must(
      journal::fold_epochs(volume_, EpochId{since}, EpochId{until}, journal::Fold::Cancel::kDrop));
  EXPECT_FALSE(set.gap);
  EXPECT_TRUE(set.files.count({9, 1}));
  EXPECT_TRUE(set.files.count({7, 1}));
  EXPECT_FALSE(set.files.count({8, 1}));
  cursor("abc", until);
  must(housekeeper_->pass());
  EXPECT_TRUE(checkpoints_->all().empty()) << "nobody needs them any more";
}

TEST_F(HousekeeperTest, CursorsBetweenCheckpointsKeepTheirBoundary) {
  cursor("abc", barrier());
  fill_segments(2);
  const uint64_t middle = barrier();
  cursor("def", middle);
  write(9);
  fill_segments(2);
  must(housekeeper_->pass());
  fill_segments(2);
  must(housekeeper_->pass());
  const uint64_t until = barrier();
  journal::ChangeSet set = must(
      journal::fold_epochs(volume_, EpochId{middle}, EpochId{until}, journal::Fold::Cancel::kDrop));
  EXPECT_FALSE(set.gap);
  EXPECT_TRUE(set.files.count({9, 1}));
}

TEST_F(HousekeeperTest, PinsKnowWhatOnlyCheckpointsHold) {
  const uint64_t since = barrier();
  cursor("abc", since);
  write(9, 3);
  fill_segments(3);
  must(housekeeper_->pass());
  ASSERT_GE(checkpoints_->all().size(), 1u);
  std::shared_ptr<Pins::Pin> pin;
  auto log = must(pins_->make_log());
  must(recorder_->barrier(false, 1s, [&](const journal::SealedEpoch& s) {
    pin = pins_->pin(EpochId{since}, s.epoch, std::move(log));
  }));
  // The file is not there, so what has to be saved cannot be: that it had to be shows.
  write(10);
  EXPECT_FALSE(pin->given_up()) << "nothing is saved of what did not change";
  write(9, 3);
  EXPECT_TRUE(pin->given_up());
  pins_->unpin(pin);
}

TEST_F(HousekeeperTest, KeepsWhatIsToBeLookedAtBySizeAndByAge) {
  keep({.keep = {.bytes = 3 * kSegment}});
  fill_segments(10);
  barrier();
  must(housekeeper_->pass());
  EXPECT_GE(segments(), 4u);
  EXPECT_LE(segments(), 6u);
  keep({.keep = {.bytes = 3 * kSegment, .age_ns = 0}});
  must(housekeeper_->pass());
  EXPECT_LE(segments(), 2u);
}

TEST_F(HousekeeperTest, QuotaTakesFirstWhatIsKeptThenExactness) {
  keep({.quota_bytes = 8 * kSegment});
  write_of(9);
  const uint64_t since = barrier();
  cursor("abc", since);
  // Ranges that cannot be joined: sixteen bytes each.
  for (uint64_t i = 0; pressure() < Pressure::kExtents && i < 200'000; ++i) {
    write(7, 2 * i);
    if (i % 500 == 0) must(housekeeper_->pass());
  }
  EXPECT_EQ(pressure(), Pressure::kExtents);
  EXPECT_LE(housekeeper_->status().bytes(), 8 * kSegment);
  const uint64_t until = barrier();
  journal::ChangeSet set = must(
      journal::fold_epochs(volume_, EpochId{since}, EpochId{until}, journal::Fold::Cancel::kDrop));
  EXPECT_FALSE(set.gap);
  EXPECT_TRUE(set.files.at({7, 1}).data.touches({0, 1}));
  cursor("abc", until);
  must(housekeeper_->pass());
  EXPECT_EQ(pressure(), Pressure::kNone);
}

TEST_F(HousekeeperTest, QuotaTakesTheTreeInTheEnd) {
  keep({.quota_bytes = 8 * kSegment});
  const uint64_t since = barrier();
  cursor("abc", since);
  for (uint64_t i = 0; pressure() < Pressure::kTree && i < 200'000; ++i) {
    write(100 + i);
    if (i % 500 == 0) must(housekeeper_->pass());
  }
  EXPECT_EQ(pressure(), Pressure::kTree);
  const uint64_t until = barrier();
  EXPECT_TRUE(must(journal::fold_epochs(volume_, EpochId{since}, EpochId{until},
                                        journal::Fold::Cancel::kDrop))
                  .gap);
  EXPECT_EQ(journal_->statistics().lost, 0u) << "whoever is told of the gap knows all behind it";
}

TEST_F(HousekeeperTest, FullDiskTakesWhatItMustAndRecordsGoOn) {
  const uint64_t since = barrier();
  cursor("abc", since);
  for (int i = 0; i < 3; ++i) {
    fill_segments(2);
    must(housekeeper_->pass());
  }
  // No room for another segment, until the housekeeper has seen to it.
  storage_.full = true;
  for (int i = 0; !journal_->short_of_room() && i < 5000; ++i) write(7);
  ASSERT_TRUE(journal_->short_of_room());
  (void)housekeeper_->pass();
  EXPECT_GE(pressure(), Pressure::kNear);
  storage_.full = false;
  must(housekeeper_->pass());
  EXPECT_FALSE(journal_->short_of_room());
  write(7);
  EXPECT_EQ(journal_->statistics().lost, 0u) << "where any was lost, a gap says so now";
}

TEST_F(HousekeeperTest, BlockingHoldsMutationsUntilThereIsRoom) {
  keep({.quota_bytes = 8 * kSegment, .when_full = WhenFull::kBlock});
  const uint64_t since = barrier();
  cursor("abc", since);
  housekeeper_->start();
  std::atomic<uint64_t> written{0};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Worker worker = *recorder_->add_worker();
    for (uint64_t i = 0; !stop; ++i, ++written) {
      const journal::Record r = write_of(100 + i);
      const Touched touched[] = {{.id = r.file, .data = r.range}};
      Recorder::Mutation mutation(*recorder_, worker, r, touched);
      mutation.commit();
    }
    recorder_->remove_worker(worker);
  });
  while (!housekeeper_->status().blocking) std::this_thread::yield();
  EXPECT_LE(pressure(), Pressure::kNear) << "nothing is given up instead";
  const uint64_t until = barrier();
  EXPECT_FALSE(must(journal::fold_epochs(volume_, EpochId{since}, EpochId{until},
                                         journal::Fold::Cancel::kDrop))
                   .gap);
  const uint64_t held_at = written;
  cursor("abc", until);
  while (written <= held_at + 1) std::this_thread::yield();
  stop = true;
  housekeeper_->stop_blocking();
  writer.join();
  EXPECT_EQ(journal_->statistics().lost, 0u);
}

TEST_F(HousekeeperTest, SettlesBeforeItReleases) {
  fill_segments(3);
  EXPECT_EQ(journal_->settled(), Lsn{0});
  must(housekeeper_->pass());
  const Lsn settled = journal_->settled();
  EXPECT_GT(settled, Lsn{2 * kSegment});
  EXPECT_LE(segments(), 2u);
  write(7);
  must(housekeeper_->pass());
  EXPECT_EQ(journal_->settled(), settled) << "nobody wants another segment";
}

TEST_F(HousekeeperTest, SegmentsStayWhileTheBackingDirectoryDoesNotSync) {
  storage_.failing_label = "backing";
  fill_segments(5);
  EXPECT_FALSE(housekeeper_->pass());
  EXPECT_GE(segments(), 5u);
  EXPECT_EQ(journal_->settled(), Lsn{0});
  storage_.failing_label = "";
  must(housekeeper_->pass());
  EXPECT_LE(segments(), 2u);
}

// Its cursor is written while house is kept already, and it walks before the names go.
TEST_F(HousekeeperTest, NamesThatAWalkMayHaveSeenStayWhenItBeginsMeanwhile) {
  cursor("abc", barrier());
  write(7);
  const uint64_t since = barrier();
  come_and_go("seen");
  fill_segments(3);
  Storage& storage = Storage::system();
  const std::function<void(std::string_view)> begin_to_walk = [&](std::string_view label) {
    if (label != "manifest-append") return;
    must(journal::write_cursor(storage, volume_.dir(), "def", {EpochId{since}, true}));
  };
  storage_.at_call = &begin_to_walk;
  must(housekeeper_->pass());
  storage_.at_call = nullptr;
  ASSERT_GE(checkpoints_->all().size(), 1u);
  EXPECT_EQ(checkpoints_->all().back()->info().names, 1u);
}

TEST_F(HousekeeperTest, NamesThatAWalkMayHaveSeenStay) {
  cursor("abc", barrier(), true);
  come_and_go("seen");
  fill_segments(3);
  must(housekeeper_->pass());
  ASSERT_GE(checkpoints_->all().size(), 1u);
  EXPECT_EQ(checkpoints_->all()[0]->info().names, 1u);
}

}  // namespace
}  // namespace epochfs::fs
