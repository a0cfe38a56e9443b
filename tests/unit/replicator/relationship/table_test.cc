// The table of relationships: what is kept, what is found, and who is woken by a change.
#include "replicator/relationship/table.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

namespace epochfs::replicator {
namespace {

constexpr uint64_t kNow = 1'773'000'000'000'000'000;  // a Sunday, 20:00 UTC

class TableTest : public testing::Test {
 protected:
  TableTest() {
    char name[] = "/var/tmp/epochfs-table-XXXXXX";
    dir_ = ::mkdtemp(name);
    open();
  }
  ~TableTest() override { std::filesystem::remove_all(dir_); }

  void open() { table_ = RelationshipTable::open(Storage::system(), dir_).value(); }

  Relationship make(const std::string& id) {
    Relationship r;
    r.id = id;
    r.source_directory = "/data";
    r.target_directory = "/replica";
    r.peer = "target.example";
    r.lineage = Uuid::random();
    r.decision = Decision::kAccepted;
    r.cursor = EpochId{7};
    return r;
  }

  std::string dir_;
  std::unique_ptr<RelationshipTable> table_;
};

TEST_F(TableTest, KeepsEverythingThroughARestart) {
  Relationship r = make("0123456789ab");
  r.windows = {parse_blackout("SUN,WED 22:00-06:00").value(),
               parse_blackout("SAT 00:00-24:00").value()};
  r.time_zone = "Europe/Berlin";
  r.state_hash = UINT64_MAX;
  r.barrier_time_ns = kNow;
  r.walk_since = EpochId{5};
  ASSERT_TRUE(table_->add(r));
  open();
  auto back = table_->get(r.id);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->windows, r.windows);
  EXPECT_EQ(back->time_zone, r.time_zone);
  EXPECT_EQ(back->lineage, r.lineage);
  EXPECT_EQ(back->decision, r.decision);
  EXPECT_EQ(back->cursor, r.cursor);
  EXPECT_EQ(back->state_hash, r.state_hash);
  EXPECT_EQ(back->barrier_time_ns, r.barrier_time_ns);
  EXPECT_EQ(back->walk_since, r.walk_since);
}

TEST_F(TableTest, FailedChangeLeavesTheRelationshipAsItWas) {
  ASSERT_TRUE(table_->add(make("0123456789ab")));
  auto failed = table_->update("0123456789ab", [](Relationship& r) -> Result<void> {
    r.enabled = false;
    return fail("no");
  });
  EXPECT_FALSE(failed);
  EXPECT_TRUE(table_->get("0123456789ab")->enabled);
}

TEST_F(TableTest, FindsByUnambiguousPrefix) {
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  ASSERT_TRUE(table_->add(make("ab0000000000")));
  EXPECT_EQ(table_->find("ab").value().id, "ab0000000000");
  EXPECT_EQ(table_->find("a").error().status, ExitStatus::kUsage);
  EXPECT_EQ(table_->find("c").error().status, ExitStatus::kNoMatch);
  EXPECT_EQ(table_->find("").error().status, ExitStatus::kNoMatch);
}

TEST_F(TableTest, DeletedTargetIsHiddenButAnswersItsSource) {
  Relationship r = make("aa0000000000");
  r.role = rpc::Role::TARGET;
  r.decision = Decision::kDeleted;
  ASSERT_TRUE(table_->add(r));
  EXPECT_TRUE(table_->list().empty());
  EXPECT_FALSE(table_->find("aa"));
  EXPECT_TRUE(table_->get("aa0000000000"));
}

TEST_F(TableTest, TakesNoMoreThanItsMaximum) {
  for (size_t i = 0; i < kMaxRelationships; ++i) {
    ASSERT_TRUE(table_->add(make("00000000" + std::to_string(1000 + i))));
  }
  EXPECT_FALSE(table_->add(make("ffffffffffff")));
}

TEST_F(TableTest, AChangeWakesOnlyThoseWhoWatchThatRelationship) {
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  ASSERT_TRUE(table_->add(make("bb0000000000")));
  LoopSignal a, also_a, b, nothing;
  const Watch watches[] = {table_->watch("aa0000000000", a), table_->watch("aa0000000000", also_a),
                           table_->watch("bb0000000000", b)};
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(table_->update("aa0000000000", [](Relationship&) -> Result<void> { return {}; }));
  }
  EXPECT_EQ(a.take(), 3u);
  EXPECT_EQ(also_a.take(), 3u);
  EXPECT_EQ(b.take(), 0u);
  EXPECT_EQ(nothing.take(), 0u);
}

TEST_F(TableTest, AddAndRemoveWakeAndAFailedChangeDoesNot) {
  LoopSignal signal;
  const Watch watch = table_->watch("aa0000000000", signal);  // before it exists
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  EXPECT_EQ(signal.take(), 1u);
  ASSERT_FALSE(
      table_->update("aa0000000000", [](Relationship&) -> Result<void> { return fail("no"); }));
  EXPECT_EQ(signal.take(), 0u);
  ASSERT_TRUE(table_->remove("aa0000000000"));
  EXPECT_EQ(signal.take(), 1u);
}

TEST_F(TableTest, AWatchEndsWithItsObjectAndMovesWithIt) {
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  auto change = [&] {
    return table_->update("aa0000000000", [](Relationship&) -> Result<void> { return {}; });
  };
  LoopSignal first, second;
  Watch kept;
  {
    Watch moved = table_->watch("aa0000000000", first);
    const Watch dropped = table_->watch("aa0000000000", second);
    kept = std::move(moved);
  }
  ASSERT_TRUE(change());
  EXPECT_EQ(first.take(), 1u);
  EXPECT_EQ(second.take(), 0u);
  kept = table_->watch("aa0000000000", second);  // the earlier watch ends
  ASSERT_TRUE(change());
  EXPECT_EQ(first.take(), 0u);
  EXPECT_EQ(second.take(), 1u);
}

TEST_F(TableTest, ALookDoesNotWaitForAChangeUnderWay) {
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  ASSERT_TRUE(table_->update("aa0000000000", [&](Relationship& r) -> Result<void> {
    r.enabled = false;
    // Looks from another thread, as a session does while a file is replaced.
    std::thread([&] { EXPECT_TRUE(table_->get(r.id)->enabled); }).join();
    return {};
  }));
  EXPECT_FALSE(table_->get("aa0000000000")->enabled);
}

}  // namespace
}  // namespace epochfs::replicator
