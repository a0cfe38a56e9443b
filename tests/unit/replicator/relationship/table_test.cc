// The table of relationships: what is kept, what is found, and who is woken by a change.
#include "replicator/relationship/table.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
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

  std::string path_of(const std::string& id) const {
    return dir_ + "/relationships/" + id + ".json";
  }
  std::string text_of(const std::string& id) const {
    std::ifstream file(path_of(id));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& id, const std::string& text) const {
    std::ofstream(path_of(id)) << text;
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

// ---- files that cannot be used ----

struct DamageCase {
  const char* name;
  void (*damage)(std::string& text);
  const char* said;
};
void PrintTo(const DamageCase& c, std::ostream* out) { *out << c.name; }

void exchange(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << text;
  text.replace(at, from.size(), to);
}

class DamageTest : public TableTest, public testing::WithParamInterface<DamageCase> {};

TEST_P(DamageTest, IsPutAsideAndTheOthersAreThere) {
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  ASSERT_TRUE(table_->add(make("ab0000000000")));
  const std::string sound = text_of("ab0000000000");
  std::string text = sound;
  GetParam().damage(text);
  write("ab0000000000", text);
  open();

  EXPECT_TRUE(table_->get("aa0000000000"));
  ASSERT_EQ(table_->list().size(), 1u);
  ASSERT_EQ(table_->damaged().size(), 1u);
  const DamagedRelationship damaged = table_->damaged()[0];
  EXPECT_EQ(damaged.id, "ab0000000000");
  EXPECT_NE(damaged.reason.find("ab0000000000.json"), std::string::npos) << damaged.reason;
  EXPECT_NE(damaged.reason.find(GetParam().said), std::string::npos) << damaged.reason;
  EXPECT_FALSE(table_->get("ab0000000000"));
  EXPECT_EQ(table_->find("ab").error().status, ExitStatus::kFailed);
  EXPECT_EQ(table_->find("a").error().status, ExitStatus::kUsage);
  EXPECT_TRUE(table_->find_damaged("ab"));
  EXPECT_FALSE(table_->find_damaged("a"));

  // Nothing takes its place, and it stays as it is.
  EXPECT_FALSE(table_->add(make("ab0000000000")));
  EXPECT_EQ(text_of("ab0000000000"), text);

  write("ab0000000000", sound);
  open();
  EXPECT_TRUE(table_->damaged().empty());
  EXPECT_EQ(table_->get("ab0000000000")->cursor, EpochId{7});
}

INSTANTIATE_TEST_SUITE_P(
    AFile, DamageTest,
    testing::Values(
        DamageCase{"Empty", [](std::string& t) { t.clear(); }, "it is empty"},
        DamageCase{"TooLong", [](std::string& t) { t.append(64 << 10, ' '); }, "File too large"},
        DamageCase{"CutOff", [](std::string& t) { t.resize(t.size() / 2); }, "not the JSON"},
        DamageCase{"NoObject", [](std::string& t) { t = "{}"; }, "it is of a relationship \"\""},
        DamageCase{"OfAnother",
                   [](std::string& t) { exchange(t, "\"ab0000000000\"", "\"ab0000000001\""); },
                   "ab0000000001"},
        DamageCase{"UnknownRole", [](std::string& t) { exchange(t, "\"source\"", "\"unknown\""); },
                   "no role"},
        DamageCase{"RoleOfANewerVersion",
                   [](std::string& t) { exchange(t, "\"source\"", "\"witness\""); },
                   "not the JSON"},
        DamageCase{"UnknownDecision", [](std::string& t) { exchange(t, "accepted", "perhaps"); },
                   "\"perhaps\""},
        DamageCase{"TimeZoneThatIsNoMore",
                   [](std::string& t) { exchange(t, "\"UTC\"", "\"US/Pacific-New\""); },
                   "US/Pacific-New"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(TableTest, DamagedItCanBeRemoved) {
  ASSERT_TRUE(table_->add(make("ab0000000000")));
  write("ab0000000000", "");
  open();
  ASSERT_TRUE(table_->remove("ab0000000000"));
  EXPECT_TRUE(table_->damaged().empty());
  open();
  EXPECT_TRUE(table_->damaged().empty());
  EXPECT_TRUE(table_->add(make("ab0000000000")));
}

TEST_F(TableTest, DamagedItTellsWhatItsFileTells) {
  Relationship r = make("ab0000000000");
  r.role = rpc::Role::TARGET;
  ASSERT_TRUE(table_->add(r));
  std::string text = text_of(r.id);
  exchange(text, "\"UTC\"", "\"US/Pacific-New\"");
  write(r.id, text);
  open();
  const Relationship readable = table_->damaged().at(0).readable;
  EXPECT_EQ(readable.role, rpc::Role::TARGET);
  EXPECT_EQ(readable.target_directory, "/replica");
  write(r.id, "");
  open();
  EXPECT_EQ(table_->damaged().at(0).readable.role, rpc::Role::UNKNOWN);
}

// The worst that a peer may send: each of these bytes takes six in JSON.
TEST_F(TableTest, TheLongestThatAPeerCanSendIsReadAgain) {
  Relationship r = make("ab0000000000");
  r.source_directory = "/" + std::string(4094, '\1');
  r.target_directory = "/" + std::string(4094, '\2');
  r.ended = reason_of_peer(std::string(100'000, '\3'));
  ASSERT_TRUE(table_->add(r));
  open();
  EXPECT_TRUE(table_->damaged().empty());
  EXPECT_EQ(table_->get(r.id)->source_directory, r.source_directory);
}

TEST_F(TableTest, AFileThatCouldNotBeReadAgainIsNotWritten) {
  Relationship r = make("ab0000000000");
  ASSERT_TRUE(table_->add(r));
  EXPECT_FALSE(table_->update(r.id, [](Relationship& changed) -> Result<void> {
    changed.ended.assign(64 << 10, 'x');
    return {};
  }));
  open();
  EXPECT_TRUE(table_->get(r.id)->ended.empty());
}

TEST(ReasonOfPeer, IsEscapedAndCutBetweenCharacters) {
  EXPECT_EQ(reason_of_peer("no room"), "no room");
  EXPECT_EQ(reason_of_peer("a\nb\x1b"), "a\\nb\\x1b");
  EXPECT_EQ(reason_of_peer(std::string(kMaxReasonBytes, 'x')), std::string(kMaxReasonBytes, 'x'));
  for (size_t shift = 0; shift < 4; ++shift) {
    std::string text(shift, 'x');
    while (text.size() < 5000) text += "\u20ac";
    const std::string cut = reason_of_peer(text);
    EXPECT_LE(cut.size(), kMaxReasonBytes);
    EXPECT_TRUE(is_utf8(cut)) << cut;
    EXPECT_TRUE(cut.ends_with("..."));
  }
  EXPECT_LE(reason_of_peer(std::string(kMaxReasonBytes, '\1')).size(), kMaxReasonBytes);
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
