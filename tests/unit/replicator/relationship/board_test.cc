// The board of progress: what it shows, and who is woken by a tick.
#include "replicator/relationship/board.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace epochfs::replicator {
namespace {

class BoardTest : public testing::Test {
 protected:
  BoardTest() {
    char name[] = "/var/tmp/epochfs-board-XXXXXX";
    dir_ = ::mkdtemp(name);
    table_ = RelationshipTable::open(Storage::system(), dir_).value();
    board_ = std::make_unique<ProgressBoard>(*table_);
    for (const char* id : {kA, kB}) {
      Relationship r;
      r.id = id;
      EXPECT_TRUE(table_->add(r));
    }
  }
  ~BoardTest() override { std::filesystem::remove_all(dir_); }

  void tick(const char* id) {
    board_->update(id, [](Progress& p) { ++p.files_sent; });
  }

  static constexpr const char* kA = "aa0000000000";
  static constexpr const char* kB = "bb0000000000";
  std::string dir_;
  std::unique_ptr<RelationshipTable> table_;
  std::unique_ptr<ProgressBoard> board_;
};

TEST_F(BoardTest, ATickWakesOnlyThoseWhoWatchTheProgressOfThatRelationship) {
  LoopSignal progress_of_a, progress_of_b, asked, table;
  const Watch watches[] = {board_->watch(kA, progress_of_a), board_->watch(kB, progress_of_b),
                           board_->watch_asked(kA, asked), table_->watch(kA, table)};
  for (int i = 0; i < 5; ++i) tick(kA);
  EXPECT_EQ(board_->get(kA).files_sent, 5u);
  EXPECT_EQ(progress_of_a.take(), 5u);
  EXPECT_EQ(progress_of_b.take(), 0u);
  EXPECT_EQ(asked.take(), 0u);  // the source's own session
  EXPECT_EQ(table.take(), 0u);  // sessions, and connections that have it open
}

TEST_F(BoardTest, AChangeOfTheTableIsNoTick) {
  LoopSignal progress;
  const Watch watch = board_->watch(kA, progress);
  ASSERT_TRUE(table_->update(kA, [](Relationship&) -> Result<void> { return {}; }));
  EXPECT_EQ(progress.take(), 0u);
}

TEST_F(BoardTest, AskingWakesTheSourceOfThatRelationshipAndDrawsATicket) {
  LoopSignal source_of_a, source_of_b;
  const Watch watches[] = {board_->watch_asked(kA, source_of_a),
                           board_->watch_asked(kB, source_of_b)};
  EXPECT_EQ(board_->ask(kA), 1u);
  EXPECT_EQ(board_->ask(kA), 2u);
  EXPECT_EQ(board_->get(kA).asked, 2u);
  EXPECT_EQ(source_of_a.take(), 2u);
  EXPECT_EQ(source_of_b.take(), 0u);
}

TEST_F(BoardTest, WhatTheTableDoesNotHaveIsNotKept) {
  EXPECT_EQ(board_->ask("cc0000000000"), 0u);
  tick(kA);
  ASSERT_TRUE(table_->remove(kA));
  board_->forget(kA);
  tick(kA);  // a session on its way out
  EXPECT_EQ(board_->get(kA).files_sent, 0u);
  Relationship again;
  again.id = kA;
  ASSERT_TRUE(table_->add(again));
  EXPECT_EQ(board_->get(kA).files_sent, 0u);
}

}  // namespace
}  // namespace epochfs::replicator
