// Checkpoints: when they have taken the place of records, is the fold of any range still
// its net effect, and does their space follow what changed?
#include <fmt/format.h>

#include <filesystem>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/unit/journal/changes/checkpoints_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

TEST_F(CheckpointsTest, StandInForRecords) {
  open();
  append(create_of(10, "a"));
  seal_and_publish();
  append(write_of(10, 5, 9));
  append(create_of(11, "b"));
  fill_segment();
  seal_and_publish();
  ChangeSet before = fold(0, 2);
  must(checkpoints().extend(EpochId{0}, EpochId{2}, {}));
  let_records_go();
  ChangeSet after = fold(0, 2);
  EXPECT_FALSE(after.gap);
  EXPECT_EQ(after.names, before.names);
  EXPECT_EQ(after.files.size(), before.files.size());
  EXPECT_TRUE(after.files.at({10, 1}).fresh);
  EXPECT_EQ(after.files.at({10, 1}).last_data, before.files.at({10, 1}).last_data);
}

TEST_F(CheckpointsTest, WithoutThemMissingRecordsAreAGap) {
  open();
  append(create_of(10, "a"));
  fill_segment();
  seal_and_publish();
  let_records_go();
  EXPECT_TRUE(fold(0, 1).gap);
}

TEST_F(CheckpointsTest, AreSplitAtBoundariesAndNeverMergedAcrossThem) {
  open();
  for (int i = 0; i < 6; ++i) {
    append(create_of(uint64_t(10 + i), std::string(1, char('a' + i))));
    seal_and_publish();
  }
  const CheckpointPolicy policy{.boundaries = {EpochId{2}, EpochId{5}}};
  must(checkpoints().extend(EpochId{1}, EpochId{6}, policy));
  EXPECT_EQ(names_on_disk(), (std::vector<std::string>{"2-2", "3-5", "6-6"}));
  must(checkpoints().compact(policy));
  EXPECT_EQ(names_on_disk(), (std::vector<std::string>{"2-2", "3-5", "6-6"}));
  must(checkpoints().compact({.boundaries = {EpochId{2}}}));
  EXPECT_EQ(names_on_disk(), (std::vector<std::string>{"2-2", "3-6"}));
  EXPECT_EQ(fold(2, 6).names.size(), 4u);
  must(checkpoints().drop_up_to(EpochId{2}));
  EXPECT_EQ(names_on_disk(), (std::vector<std::string>{"3-6"}));
}

TEST_F(CheckpointsTest, RangeThatEndsWithinOneNeedsTheRecords) {
  open();
  for (int i = 0; i < 4; ++i) {
    append(create_of(uint64_t(10 + i), std::string(1, char('a' + i))));
    fill_segment();
    seal_and_publish();
  }
  must(checkpoints().extend(EpochId{0}, EpochId{4}, {}));
  EXPECT_EQ(names_on_disk(), std::vector<std::string>{"1-4"});
  EXPECT_EQ(fold(1, 3).names.size(), 2u) << "they are still there";
  let_records_go();
  EXPECT_TRUE(fold(0, 3).gap) << "names would be as of epoch 4";
  EXPECT_TRUE(fold(1, 4).gap) << "what cancelled out since epoch 0 may not have since 1";
  EXPECT_FALSE(fold(1, 4, Fold::Cancel::kKeep).gap) << "too much is right there";
  EXPECT_FALSE(fold(0, 4).gap);
}

TEST_F(CheckpointsTest, RecordsThatAreMissingAlreadyMakeAGap) {
  open();
  append(create_of(10, "a"));
  fill_segment();
  seal_and_publish();
  let_records_go();
  append(create_of(11, "b"));
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{2}, {}));
  ASSERT_EQ(checkpoints().all().size(), 1u);
  EXPECT_TRUE(checkpoints().all()[0]->info().gap);
  EXPECT_TRUE(fold(0, 2).gap);
}

TEST_F(CheckpointsTest, WhatCameAndWentTakesNoRoom) {
  open();
  append(create_of(3, "stays"));
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  const uint64_t before = checkpoints().bytes();
  std::string name;
  for (uint64_t round = 0; round < 20; ++round) {
    for (uint64_t i = 0; i < 50; ++i) {
      const uint64_t inode = 1000 * (round + 1) + i;
      append(create_of(inode, name = fmt::format("temporary-{}", inode)));
      append(write_of(inode, 0, 100));
      // Half of them live longer than an epoch.
      Record gone = create_of(i % 2 ? inode : inode - 1000, "");
      gone.type = RecordType::kUnlink;
      if (round == 0 && i % 2 == 0) continue;
      gone.name = name = fmt::format("temporary-{}", gone.file.inode);
      append(gone);
      append(write_of(3, 0, 4096));
    }
    seal_and_publish();
    must(checkpoints().extend(EpochId{0}, EpochId{round + 2}, {}));
    must(checkpoints().compact({}));
  }
  ASSERT_EQ(checkpoints().all().size(), 1u);
  EXPECT_EQ(checkpoints().all()[0]->info().files, 2u + 25) << "stays, its folder, and the last 25";
  EXPECT_LT(checkpoints().bytes(), before + 25 * 256);
  EXPECT_EQ(fold(0, 21).names.size(), 26u);
}

TEST_F(CheckpointsTest, NamesThatAWalkMayHaveSeenStay) {
  open();
  append(create_of(10, "seen"));
  Record gone = create_of(10, "seen");
  gone.type = RecordType::kUnlink;
  append(gone);
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {.walk_since = EpochId{0}}));
  EXPECT_EQ(fold(0, 1, Fold::Cancel::kKeep).names.size(), 1u);
}

TEST_F(CheckpointsTest, CoarserOnesSayMoreAndTakeLess) {
  open();
  for (uint64_t i = 0; i < 500; ++i) append(write_of(10, i * 8192, i * 8192 + 1));
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  const ByteRanges exact = fold(0, 1).files.at({10, 1}).data;
  EXPECT_EQ(exact.count(), 500u);
  uint64_t bytes = checkpoints().bytes();
  for (Coarseness c : {Coarseness::kExtents, Coarseness::kFiles}) {
    must(checkpoints().coarsen({.coarseness = c}));
    const ByteRanges data = checkpoints().all()[0]->find({10, 1})->data;
    EXPECT_EQ(data.within(exact), exact);
    EXPECT_LE(checkpoints().bytes(), bytes);
    bytes = checkpoints().bytes();
    EXPECT_EQ(data.count(), 1u);
  }
  EXPECT_TRUE(checkpoints().all()[0]->find({10, 1})->data.touches({1ull << 60, (1ull << 60) + 1}));
}

TEST_F(CheckpointsTest, DamagedOneIsLetGoOfAndMakesAGap) {
  open();
  for (int i = 0; i < 3; ++i) {
    append(create_of(uint64_t(10 + i), std::string(1, char('a' + i))));
    fill_segment();
    seal_and_publish();
  }
  must(checkpoints().extend(EpochId{0}, EpochId{3}, {.boundaries = {EpochId{1}, EpochId{2}}}));
  let_records_go();
  poke(volume_.path() + "/checkpoints/" + checkpoint_name(EpochId{2}, EpochId{2}), 150, "?");
  EXPECT_FALSE(read_checkpoints(volume_));
  checkpoints_.reset();
  std::optional<Error> damage;
  checkpoints_ = must(Checkpoints::open(storage_, volume_, &damage));
  ASSERT_TRUE(damage);
  EXPECT_EQ(names_on_disk(), std::vector<std::string>{"3-3"});
  EXPECT_TRUE(fold(0, 3).gap);
  EXPECT_FALSE(fold(2, 3).gap);
}

TEST_F(CheckpointsTest, RemnantsOfACrashAreRemoved) {
  open();
  for (int i = 0; i < 3; ++i) {
    append(create_of(uint64_t(10 + i), std::string(1, char('a' + i))));
    seal_and_publish();
  }
  must(checkpoints().extend(EpochId{0}, EpochId{3}, {.boundaries = {EpochId{1}, EpochId{2}}}));
  // Fails after the merged one is there, and before the others are gone.
  storage_.failing_label = "checkpoint-remove";
  EXPECT_FALSE(checkpoints().compact({}));
  storage_.failing_label.clear();
  write_file(volume_.path() + "/checkpoints/" + checkpoint_name(EpochId{4}, EpochId{4}) + ".new",
             "x");
  EXPECT_EQ(fold(0, 3).names.size(), 3u);
  checkpoints_.reset();
  checkpoints();
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(volume_.path() + "/checkpoints")) {
    (void)entry;
    ++files;
  }
  EXPECT_EQ(files, must(read_checkpoints(volume_)).size());
  EXPECT_EQ(fold(0, 3).names.size(), 3u);
}

TEST_F(CheckpointsTest, RandomHistoriesFoldToTheirNetEffectWithoutTheirRecords) {
  Random random;
  for (int history = 0; history < 30 && !HasFatalFailure(); ++history) {
    live(random, {
                     .before_a_seal =
                         [&](const auto&, const auto&) {
                           if (random.one_in(3)) fill_segment();
                         },
                     .after_checkpoints =
                         [&] {
                           if (random.one_in(2)) let_records_go();
                         },
                     .check = [&](const auto& before, const auto& after, uint64_t since,
                                  uint64_t until) { check(before, after, fold(since, until)); },
                 });
  }
}

}  // namespace
}  // namespace epochfs::journal
