// The words of status: which state is shown, and with which reason.
#include "replicator/relationship/status.h"

#include <capnp/message.h>
#include <gtest/gtest.h>

namespace epochfs::replicator {
namespace {

class SundayEvening final : public Clock {
 public:
  uint64_t now_ns() const override { return 1'773'000'000'000'000'000; }  // 20:00 UTC
};
const SundayEvening kNow;

Relationship make() {
  Relationship r;
  r.id = "0123456789ab";
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

TEST(Status, FirstMatchingStateIsShown) {
  Relationship r = make();
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

TEST(Status, AStateIsToldWithItsReason) {
  Relationship r = make();
  Progress p;
  EXPECT_EQ(state_text(r, p, kNow), "Up to Date");
  p.error = "no room";
  EXPECT_EQ(state_text(r, p, kNow), "Failed (no room; will retry)");
  r.decision = Decision::kDeleted;
  EXPECT_EQ(state_text(r, p, kNow), "Ended (deleted on the other host)");
  r.role = rpc::Role::TARGET;
  EXPECT_EQ(state_text(r, p, kNow), "Ended (deleted on this host)");
}

}  // namespace
}  // namespace epochfs::replicator
