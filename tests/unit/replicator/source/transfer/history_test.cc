// What a source concludes from what its target holds, when either host may have been put back to an
// earlier snapshot; and how the bytes of a file are named.
#include "replicator/source/transfer/history.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <vector>

namespace epochfs::replicator {
namespace {

using journal::SealedEpoch;

const std::string kId = "0123456789ab";
const Uuid kLineage = Uuid::random();
constexpr uint64_t kBegan = 1'773'000'000'000'000'000;

// A source host: its journal's manifest, and its relationship's file. A copy of it is a snapshot.
struct Source {
  std::map<EpochId, SealedEpoch> manifest;
  Relationship known;

  Source() {
    known.id = kId;
    known.lineage = kLineage;
  }

  // Each host has a clock that goes on, whatever the host was put back to. The same changes take
  // the same room in the journal, so a seal stands where it stood in another history.
  const SealedEpoch& seal(uint64_t& clock) {
    const EpochId epoch{manifest.size() + 1};
    clock += 1'000'000;
    const Lsn begin{4096 + 100 * manifest.size()}, end{4096 + 100 * (manifest.size() + 1)};
    return manifest[epoch] = {epoch, clock, begin, end, 1};
  }
  std::optional<SealedEpoch> find(EpochId epoch) const {
    auto entry = manifest.find(epoch);
    return entry == manifest.end() ? std::nullopt : std::optional(entry->second);
  }
  TargetHolds commit(const SealedEpoch& epoch) const {
    return {epoch.epoch, state_hash_after(known.state_hash, kId, kLineage, epoch)};
  }
  void hear(const TargetHolds& target) {
    known.cursor = target.cursor;
    known.state_hash = target.state_hash;
    known.barrier_time_ns = find(target.cursor)->barrier_ns;
  }
};

// A source and a target that have gone through three epochs.
struct Pair {
  Pair() {
    for (int i = 0; i < 3; ++i) replicate();
  }

  void commit() { target = source.commit(source.seal(clock)); }
  void replicate() {
    commit();
    source.hear(target);
  }
  Conclusion concluded() const {
    return conclude(source.known, target, source.find(target.cursor));
  }

  uint64_t clock = kBegan;
  Source source;
  TargetHolds target;
};

TEST(History, WhatTheTargetHolds) {
  struct Case {
    const char* what;
    std::function<void(Pair&)> happens;
    Conclusion follows;
  };
  auto put_back = [](Pair& t, int commits) {
    const Source snapshot = t.source;
    for (int i = 0; i < commits; ++i) t.replicate();
    t.source = snapshot;
  };
  const Case cases[] = {
      {"nothing", [](Pair&) {}, Conclusion::kSame},
      {"the source has sealed more", [](Pair& t) { t.source.seal(t.clock); }, Conclusion::kSame},
      {"nothing was replicated yet",
       [](Pair& t) {
         t.source = Source();
         t.target = {};
       },
       Conclusion::kSame},
      {"an acknowledgement was lost", [](Pair& t) { t.commit(); },
       Conclusion::kAcknowledgementLost},
      {"that of several epochs in one",
       [](Pair& t) {
         t.source.seal(t.clock);
         t.source.seal(t.clock);
         t.commit();
       },
       Conclusion::kAcknowledgementLost},
      {"that of a comparison that ended with the same epoch",
       [](Pair& t) { t.target = t.source.commit(*t.source.find(t.target.cursor)); },
       Conclusion::kAcknowledgementLost},
      {"that of the first copy",
       [](Pair& t) {
         t.source = Source();
         t.commit();
       },
       Conclusion::kAcknowledgementLost},
      {"the source was put back by one commit", [&](Pair& t) { put_back(t, 1); },
       Conclusion::kUnknownEpoch},
      {"and has sealed an epoch of that number since",
       [&](Pair& t) {
         put_back(t, 1);
         t.source.seal(t.clock);
       },
       Conclusion::kAnotherState},
      {"and the acknowledgement of the last commit was lost",
       [](Pair& t) {
         const Source snapshot = t.source;
         t.commit();
         t.source = snapshot;
         t.source.seal(t.clock);
       },
       Conclusion::kAnotherState},
      {"the source was put back by several commits", [&](Pair& t) { put_back(t, 3); },
       Conclusion::kUnknownEpoch},
      {"and has sealed as many epochs since",
       [&](Pair& t) {
         put_back(t, 3);
         for (int i = 0; i < 4; ++i) t.source.seal(t.clock);
       },
       Conclusion::kAnotherState},
      // Then the epoch is the same in both histories.
      {"the source was put back to between seal and commit",
       [](Pair& t) {
         const SealedEpoch sealed = t.source.seal(t.clock);
         const Source snapshot = t.source;
         t.target = t.source.commit(sealed);
         t.source.hear(t.target);
         t.source = snapshot;
       },
       Conclusion::kAcknowledgementLost},
      {"and the target has gone further meanwhile",
       [](Pair& t) {
         const SealedEpoch sealed = t.source.seal(t.clock);
         const Source snapshot = t.source;
         t.target = t.source.commit(sealed);
         t.source.hear(t.target);
         t.replicate();
         t.source = snapshot;
       },
       Conclusion::kUnknownEpoch},
      {"the target was put back by one commit",
       [](Pair& t) {
         const TargetHolds snapshot = t.target;
         t.replicate();
         t.target = snapshot;
       },
       Conclusion::kAnotherState},
      {"the target was put back by several",
       [](Pair& t) {
         const TargetHolds snapshot = t.target;
         for (int i = 0; i < 3; ++i) t.replicate();
         t.target = snapshot;
       },
       Conclusion::kAnotherState},
      {"the target was put back, and an acknowledgement was lost before",
       [](Pair& t) {
         const TargetHolds snapshot = t.target;
         t.commit();
         t.target = snapshot;
       },
       Conclusion::kSame},
      {"the target was put back to before the first copy", [](Pair& t) { t.target = {}; },
       Conclusion::kUnknownEpoch},
      {"both were put back to one moment",
       [](Pair& t) {
         const Source source_then = t.source;
         const TargetHolds target_then = t.target;
         t.replicate();
         t.source = source_then;
         t.target = target_then;
         t.source.seal(t.clock);
       },
       Conclusion::kSame},
      {"both were put back, the source further",
       [](Pair& t) {
         const Source source_then = t.source;
         t.replicate();
         const TargetHolds target_then = t.target;
         t.replicate();
         t.source = source_then;
         t.target = target_then;
         t.source.seal(t.clock);
       },
       Conclusion::kAnotherState},
      {"both were put back, the target further",
       [](Pair& t) {
         const TargetHolds target_then = t.target;
         t.replicate();
         const Source source_then = t.source;
         t.replicate();
         t.source = source_then;
         t.target = target_then;
       },
       Conclusion::kAnotherState},
      {"the journal alone was put back",
       [](Pair& t) {
         const auto manifest = t.source.manifest;
         t.replicate();
         t.source.manifest = manifest;
       },
       Conclusion::kUnknownEpoch},
      {"the journal alone was put back, and has sealed an epoch of that number since",
       [](Pair& t) {
         const auto manifest = t.source.manifest;
         t.replicate();
         t.source.manifest = manifest;
         t.source.seal(t.clock);
       },
       Conclusion::kUnknownEpoch},
      {"the relationship's file alone was put back by several commits",
       [](Pair& t) {
         const Relationship known = t.source.known;
         t.replicate();
         t.replicate();
         t.source.known = known;
       },
       Conclusion::kAnotherState},
      // It is as if the acknowledgement had been lost: the journal knows the epoch.
      {"the relationship's file alone was put back by one commit",
       [](Pair& t) {
         const Relationship known = t.source.known;
         t.replicate();
         t.source.known = known;
       },
       Conclusion::kAcknowledgementLost},
      {"a clone of the source has replicated there",
       [](Pair& t) {
         Source clone = t.source;
         t.target = clone.commit(clone.seal(t.clock));
         t.source.seal(t.clock);
       },
       Conclusion::kAnotherState},
      // A release before this one made the hash of its number alone.
      {"both know an older form of the hash",
       [](Pair& t) { t.source.known.state_hash = t.target.state_hash = 12345; }, Conclusion::kSame},
      {"an acknowledgement was lost by an older release",
       [](Pair& t) {
         t.commit();
         t.target.state_hash = 12345;
       },
       Conclusion::kAnotherState},
  };
  for (const Case& c : cases) {
    Pair fresh;
    c.happens(fresh);
    EXPECT_EQ(int(fresh.concluded()), int(c.follows)) << c.what;
  }
}

TEST(History, TheReasonNamesAnEpochThatIsUnknown) {
  EXPECT_NE(reason_of(Conclusion::kUnknownEpoch, {EpochId{77}, 1}).find("epoch 77"),
            std::string::npos);
  EXPECT_EQ(reason_of(Conclusion::kUnknownEpoch, {}).find("epoch 0"), std::string::npos);
}

TEST(History, StateHashDependsOnEverything) {
  const SealedEpoch epoch{EpochId{3}, kBegan, Lsn{100}, Lsn{200}, 1};
  const uint64_t hash = state_hash_after(5, kId, kLineage, epoch);
  EXPECT_NE(hash, 0u);
  EXPECT_EQ(hash, state_hash_after(5, kId, kLineage, epoch));
  EXPECT_NE(hash, state_hash_after(6, kId, kLineage, epoch));
  EXPECT_NE(hash, state_hash_after(5, "0123456789ac", kLineage, epoch));
  EXPECT_NE(hash, state_hash_after(5, kId, Uuid::random(), epoch));
  for (auto change :
       {+[](SealedEpoch& e) { e.epoch = EpochId{4}; }, +[](SealedEpoch& e) { ++e.barrier_ns; },
        +[](SealedEpoch& e) { e.seal = Lsn{208}; }}) {
    SealedEpoch other = epoch;
    change(other);
    EXPECT_NE(hash, state_hash_after(5, kId, kLineage, other));
  }
}

TEST(History, BytesOfOneLsnInTwoHistoriesHaveTwoVersions) {
  uint64_t clock = kBegan;
  Source source;
  source.seal(clock);
  Source other = source;
  const std::vector<SealedEpoch> here = {source.seal(clock), source.seal(clock)};
  const std::vector<SealedEpoch> there = {other.seal(clock), other.seal(clock)};
  const Versions versions(here), others(there), longer({here[0], here[1], source.seal(clock)});
  for (const SealedEpoch& e : here) {
    const Lsn lsn{value(e.begin) + 10};
    EXPECT_NE(versions.of(lsn), 0u);
    EXPECT_NE(versions.of(lsn), others.of(lsn));
    EXPECT_EQ(versions.of(lsn), longer.of(lsn));
    EXPECT_NE(versions.of(lsn), versions.of(Lsn{value(lsn) + 1}));
    EXPECT_NE(versions.of(e.seal), 0u);
  }
}

TEST(History, WhatNoEpochHasIsOfUnknownVersion) {
  uint64_t clock = kBegan;
  Source source;
  const Versions versions({source.seal(clock)});
  const SealedEpoch& sealed = source.manifest.rbegin()->second;
  EXPECT_EQ(versions.of(Lsn{0}), 0u);
  EXPECT_EQ(versions.of(Lsn{value(sealed.begin) - 1}), 0u);
  EXPECT_EQ(versions.of(Lsn{value(sealed.seal) + 1}), 0u);
}

}  // namespace
}  // namespace epochfs::replicator
