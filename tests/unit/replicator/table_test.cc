// Registry and status: what is kept, what is found, and which state is shown.
#include "replicator/relationship/table.h"

#include <capnp/message.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace epochfs::replicator {
namespace {

constexpr uint64_t kNow = 1'773'000'000'000'000'000;  // a Sunday, 20:00 UTC

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    char name[] = "/var/tmp/epochfs-registry-XXXXXX";
    dir_ = ::mkdtemp(name);
    open();
  }
  ~RegistryTest() override { std::filesystem::remove_all(dir_); }

  void open() { registry_ = Registry::open(Storage::system(), dir_).value(); }

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

  std::string state_of(const Relationship& r, const Progress& p) {
    capnp::MallocMessageBuilder message;
    auto status = message.initRoot<rpc::Status>();
    describe(r, p, kNow, status);
    return status.asReader().getState();
  }

  std::string dir_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, KeepsEverythingThroughARestart) {
  Relationship r = make("0123456789ab");
  r.windows = {parse_blackout("SUN,WED 22:00-06:00").value(),
               parse_blackout("SAT 00:00-24:00").value()};
  r.time_zone = "Europe/Berlin";
  r.state_hash = UINT64_MAX;
  r.barrier_time_ns = kNow;
  r.walk_since = EpochId{5};
  ASSERT_TRUE(registry_->add(r));
  open();
  auto back = registry_->get(r.id);
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

TEST_F(RegistryTest, FailedChangeLeavesTheRelationshipAsItWas) {
  ASSERT_TRUE(registry_->add(make("0123456789ab")));
  auto failed = registry_->update("0123456789ab", [](Relationship& r) -> Result<void> {
    r.enabled = false;
    return fail("no");
  });
  EXPECT_FALSE(failed);
  EXPECT_TRUE(registry_->get("0123456789ab")->enabled);
}

TEST_F(RegistryTest, FindsByUnambiguousPrefix) {
  ASSERT_TRUE(registry_->add(make("aa0000000000")));
  ASSERT_TRUE(registry_->add(make("ab0000000000")));
  EXPECT_EQ(registry_->find("ab").value().id, "ab0000000000");
  EXPECT_EQ(registry_->find("a").error().status, ExitStatus::kUsage);
  EXPECT_EQ(registry_->find("c").error().status, ExitStatus::kNoMatch);
  EXPECT_EQ(registry_->find("").error().status, ExitStatus::kNoMatch);
}

TEST_F(RegistryTest, DeletedTargetIsHiddenButAnswersItsSource) {
  Relationship r = make("aa0000000000");
  r.role = rpc::Role::TARGET;
  r.decision = Decision::kDeleted;
  ASSERT_TRUE(registry_->add(r));
  EXPECT_TRUE(registry_->list().empty());
  EXPECT_FALSE(registry_->find("aa"));
  EXPECT_TRUE(registry_->get("aa0000000000"));
}

TEST_F(RegistryTest, TakesNoMoreThanItsMaximum) {
  for (size_t i = 0; i < kMaxRelationships; ++i) {
    ASSERT_TRUE(registry_->add(make("00000000" + std::to_string(1000 + i))));
  }
  EXPECT_FALSE(registry_->add(make("ffffffffffff")));
}

TEST_F(RegistryTest, FirstMatchingStateIsShown) {
  Relationship r = make("0123456789ab");
  Progress p;
  EXPECT_EQ(state_of(r, p), "Up to Date");
  p.phase = Progress::Phase::kReplicating;
  EXPECT_EQ(state_of(r, p), "Replicating");
  p.phase = Progress::Phase::kIdle;
  p.merged_forward = 1;  // between two epochs that are given up
  EXPECT_EQ(state_of(r, p), "Replicating");
  r.cursor = EpochId{0};
  EXPECT_EQ(state_of(r, p), "Initial Copy");
  p.error = "disk full";
  EXPECT_EQ(state_of(r, p), "Failed");
  p.unreachable = true;
  EXPECT_EQ(state_of(r, p), "Target Unreachable");
  r.windows = {parse_blackout("SUN 18:00-22:00").value()};
  r.blackouts = BlackoutSchedule::make(r.windows, "UTC").value();
  EXPECT_EQ(state_of(r, p), "Blackout Window");
  r.enabled = false;
  EXPECT_EQ(state_of(r, p), "Off");
  p.mounted = false;
  EXPECT_EQ(state_of(r, p), "Disconnected");
  r.decision = Decision::kPending;
  EXPECT_EQ(state_of(r, p), "Awaiting Authorization");
  r.ended = "deleted on the source host";
  EXPECT_EQ(state_of(r, p), "Ended");
}

TEST_F(RegistryTest, AStateIsToldWithItsReason) {
  Relationship r = make("0123456789ab");
  Progress p;
  EXPECT_EQ(state_text(r, p, 0), "Up to Date");
  p.error = "no room";
  EXPECT_EQ(state_text(r, p, 0), "Failed (no room; will retry)");
  r.decision = Decision::kDeleted;
  EXPECT_EQ(state_text(r, p, 0), "Ended (deleted on the other host)");
  r.role = rpc::Role::TARGET;
  EXPECT_EQ(state_text(r, p, 0), "Ended (deleted on this host)");
}

TEST(StateHash, DependsOnEveryStepOfTheChain) {
  uint64_t first = chain_state_hash(0, "0123456789ab", EpochId{1});
  EXPECT_NE(first, 0u);
  EXPECT_NE(first, chain_state_hash(0, "0123456789ab", EpochId{2}));
  EXPECT_NE(first, chain_state_hash(0, "0123456789ac", EpochId{1}));
  EXPECT_NE(chain_state_hash(first, "0123456789ab", EpochId{3}),
            chain_state_hash(0, "0123456789ab", EpochId{3}));
}

}  // namespace
}  // namespace epochfs::replicator
