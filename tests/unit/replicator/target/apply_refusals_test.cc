// What does a target refuse, and does it leave everything as it was then?
#include "journal/preimages/attributes.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/unit/replicator/target/apply_support.h"
#include "tests/unit/replicator/target/operations.h"

namespace epochfs::testing {
namespace {

TEST_F(ApplyTest, ADeltaNeedsItsBase) {
  ASSERT_DONE(open());
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 0, 1);
  auto begun = target_->begin(spec.plan);  // there is no epoch to build on yet
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, replicator::Refusal::Kind::kUnknownState);
  ship_everything();
  plan(spec, 2, 3);
  begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, replicator::Refusal::Kind::kUnknownState);
  plan(spec, 1, 2);
  spec.plan.root = {99, 99};
  begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, replicator::Refusal::Kind::kUnknownState);
}

TEST_F(ApplyTest, WhatAnotherHandChangedIsNotBuiltUpon) {
  FileId f = now_.create(now_.root, "f", 0100644), d = now_.create(now_.root, "d", 0040755);
  now_.write(f, 0, std::string(100, 'f'));
  FileId g = now_.create(d, "g", 0100644);
  ASSERT_DONE(open());
  struct Case {
    std::function<void()> meddle, change;
  };
  const std::vector<Case> cases = {
      {[&] { write_file(path() + "/f", "other bytes"); }, [&] { now_.write(f, 10, "x"); }},
      {[&] { std::filesystem::remove(path() + "/f"); }, [&] { now_.write(f, 10, "x"); }},
      {[&] { std::filesystem::remove(path() + "/d/g"); },
       [&] { now_.rename(d, "g", now_.root, "g"); }},
      {[&] { std::filesystem::rename(path() + "/d", path() + "/e"); },
       [&] { now_.rename(now_.root, "d", now_.root, "x"); }},
  };
  for (const Case& c : cases) {
    now_ = TreeOracle();
    f = now_.create(now_.root, "f", 0100644), d = now_.create(now_.root, "d", 0040755);
    now_.write(f, 0, std::string(100, 'f'));
    g = now_.create(d, "g", 0100644);
    ship_everything();
    c.meddle();
    c.change();
    TransferSpec spec = changes(shipped_, now_);
    plan(spec, epoch_, epoch_ + 1);
    auto done = transfer(*target_, spec);
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().kind, replicator::Refusal::Kind::kUnknownState) << reason(done);
    EXPECT_EQ(target_->state().cursor, epoch_);  // nothing was changed
    ship_everything();
  }
}

// A directory that somebody turned into a link leads nowhere.
TEST_F(ApplyTest, NothingIsWrittenThroughALink) {
  FileId d = now_.create(now_.root, "d", 0040755);
  FileId f = now_.create(d, "f", 0100644);
  now_.write(f, 0, "f");
  ASSERT_DONE(open());
  const std::string outside = folder_ / "outside";
  auto meddle = [&] {
    std::filesystem::rename(path() + "/d", outside);
    std::filesystem::create_symlink(outside, path() + "/d");
  };
  const std::vector<std::function<void()>> changes_to_make = {
      [&] { now_.write(now_.create(d, "new", 0100644), 0, "new"); },
      [&] { now_.write(f, 0, "written"); },
      [&] { now_.unlink(d, "f"); },
      [&] { now_.at(f).attributes.mode = 0100600; },
  };
  const TreeOracle start = now_;
  for (const auto& change : changes_to_make) {
    now_ = start;
    ship_everything();
    meddle();
    const auto before = read_whole_file(outside + "/f");
    change();
    TransferSpec spec = changes(shipped_, now_);
    plan(spec, epoch_, epoch_ + 1);
    auto done = transfer(*target_, spec);
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().kind, replicator::Refusal::Kind::kUnknownState) << reason(done);
    EXPECT_EQ(target_->state().cursor, epoch_);
    EXPECT_EQ(entries(outside), 1u);
    EXPECT_EQ(read_whole_file(outside + "/f"), before);
    ship_everything();
    EXPECT_EQ(entries(outside), 1u);
    std::filesystem::remove_all(outside);
  }
}

// Too late for a refusal: the epoch is given up, and only a full transfer helps.
TEST_F(ApplyTest, WhatAnotherHandTakesAwayAfterTheMarkIsNoEpoch) {
  struct Meddler : replicator::Steps {
    std::function<void()> act;
    Result<void> at(const char* label) override {
      if (act && std::string(label) == "commit: marked") std::exchange(act, nullptr)();
      return {};
    }
  } meddler;
  FileId f = now_.create(now_.root, "f", 0100644), d = now_.create(now_.root, "d", 0040755);
  now_.write(f, 0, std::string(100, 'f'));
  now_.create(d, "g", 0100644);
  ASSERT_DONE(open(&meddler));
  ship_everything();
  now_.rename(now_.root, "f", d, "moved");
  now_.create(d, "new", 0100644);
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  meddler.act = [&] { std::filesystem::remove(path() + "/f"); };
  auto done = transfer(*target_, spec);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().kind, replicator::Refusal::Kind::kUnknownState) << reason(done);
  EXPECT_EQ(target_->state().cursor, 0u);
  auto begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  epoch_ = 2;
  ship_everything();
}

TEST_F(ApplyTest, TransfersThatAreNoTreeChangeNothing) {
  FileId a = now_.create(now_.root, "a", 0040755), b = now_.create(a, "b", 0040755);
  FileId f = now_.create(a, "f", 0100644);
  now_.write(f, 0, "f");
  ASSERT_DONE(open());
  ship_everything();
  const FileId unknown{777, 777};
  const std::vector<std::vector<replicator::NameMessage>> bad = {
      {{{now_.root, "a"}, {}}, {{b, "a"}, a}},  // a circle
      {{{b, "b"}, b}},                          // a directory in itself
      {{{a, "again"}, now_.root}},              // the root, with a name
      {{{now_.root, "x"}, unknown}},            // a file that nobody announced
      {{{unknown, "x"}, f}},                    // a directory that nobody announced
      {{{f, "x"}, b}, {{now_.root, "y"}, b}},   // two names of a directory
      {{{now_.root, "b2"}, b}, {{now_.root, "b3"}, b}},
  };
  for (const auto& names : bad) {
    TransferSpec spec;
    spec.plan.root = now_.root;
    spec.names = names;
    plan(spec, epoch_, epoch_ + 1);
    auto done = transfer(*target_, spec);
    EXPECT_FALSE(done.has_value());
    if (done) continue;
    EXPECT_EQ(done.error().kind, replicator::Refusal::Kind::kUnknownState) << reason(done);
    expect_epoch(now_, epoch_);
  }
  now_.write(f, 1, "still works");
  ship_changes();
}

// Whatever a source makes up: no crash, nothing outside, and no state that a full
// transfer would not mend.
TEST_F(ApplyTest, MadeUpTransfersNeitherEscapeNorWedge) {
  Random random;
  options_.replace_contents = true;
  ASSERT_DONE(open());
  write_file(folder_ / "sentinel", "untouched");
  const size_t outside = entries(folder_.path());
  auto any = [&] { return FileId{random.below(12), 1}; };
  size_t committed = 0;
  for (int round = 0; round < 400 && !HasFailure(); ++round) {
    TransferSpec spec;
    spec.plan.full = random.one_in(2);
    spec.plan.root = random.one_in(20) ? any() : FileId{2, 1};
    plan(spec, epoch_, epoch_ + 1 + random.below(3));
    for (uint64_t n = random.below(12); n > 0; --n) {
      static constexpr uint32_t kModes[] = {0100644, 0040755, 0120777, 0010600};
      NodeSpec node{.id = random.one_in(4) ? FileId{2, 1} : any()};
      node.file.attributes.mode = node.id.inode == 2 ? 0040755 : kModes[random.below(4)];
      node.file.symlink_target = "../sentinel";
      node.version = random.below(3);
      node.fresh = random.one_in(3);
      if (journal::is_regular(node.file.attributes.mode)) {
        node.file.data = std::string(random.below(30'000), char(random.u64()));
        node.content =
            node.fresh ? replicator::Content::kWhole : replicator::Content(random.below(3));
        if (node.content != replicator::Content::kNone)
          node.ranges.add({0, random.below(node.file.data.size() + 1)});
      }
      node.file.attributes.size = node.file.data.size();
      spec.nodes.push_back(node);
    }
    for (uint64_t n = random.below(12); n > 0; --n) {
      spec.names.push_back({{any(), std::string(1, char('a' + random.below(4)))}, any()});
      if (!spec.names.back().entry.parent) spec.names.back().entry.parent = {2, 1};
    }
    for (uint64_t n = random.below(4); n > 0; --n) spec.listed.push_back({1 + random.below(11), 1});
    if (auto begun = target_->begin(spec.plan); begun) {
      [[maybe_unused]] auto sent = send_all(*target_->stage(), spec);
      if (random.one_in(4)) [[maybe_unused]]
        auto gone = send_forgotten(*target_->stage(), {{1 + random.below(11), 1}});
      auto done = target_->commit(spec.plan);
      committed += done.has_value();
    }
    epoch_ = target_->state().cursor;
    EXPECT_EQ(read_whole_file(folder_ / "sentinel"), "untouched");
    EXPECT_EQ(entries(folder_.path()), outside);
    if (random.one_in(10)) ASSERT_DONE(open());
    if (!random.one_in(8)) continue;
    now_ = TreeOracle();
    now_.lsn = uint64_t(round) * 1000;  // times tell its files from earlier ones
    Operations(now_, random, 2000).run(30);
    ship_everything();
  }
  EXPECT_GT(committed, 20u);
}

// An index that has to grow in the middle of everything.
TEST_F(ApplyTest, ASmallIndexGrowsAsItMust) {
  options_.index_map_bytes = 1 << 20;
  for (int i = 0; i < 40; ++i) {
    FileId d = now_.create(now_.root, "d" + std::to_string(i), 0040755);
    for (int k = 0; k < 60; ++k) now_.create(d, std::string(80, 'n') + std::to_string(k), 0100644);
  }
  TransferSpec spec = everything(now_);
  plan(spec, 0, 1);
  ASSERT_DONE(open());
  ASSERT_DONE(transfer(*target_, spec));
  expect_epoch(now_, 1);
  ASSERT_DONE(open());
  expect_epoch(now_, 1);
}

TEST_F(ApplyTest, ALostTargetIsNeitherFilledNorEmptied) {
  now_.create(now_.root, "f", 0100644);
  ASSERT_DONE(open());
  ship_everything();
  auto expect_lost = [&](const char* what) {
    auto opened = open();
    ASSERT_FALSE(opened.has_value()) << what;
    EXPECT_EQ(opened.error().kind, replicator::Refusal::Kind::kTargetLost)
        << what << ": " << reason(opened);
  };
  // While a session is open.
  std::filesystem::rename(path(), folder_ / "elsewhere");
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  auto begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, replicator::Refusal::Kind::kTargetLost);

  target_.reset();
  expect_lost("missing");
  std::filesystem::create_directory(path());
  expect_lost("another directory");
  EXPECT_EQ(entries(path()), 0u);
  std::filesystem::remove(path());
  std::filesystem::rename(folder_ / "elsewhere", path());
  std::filesystem::rename(stage(), folder_ / "stage");
  expect_lost("no stage");
  std::filesystem::create_directory(stage());
  std::filesystem::permissions(stage(), std::filesystem::perms::owner_all);
  expect_lost("an empty stage");
  std::filesystem::remove_all(stage());
  std::filesystem::rename(folder_ / "stage", stage());
  options_.lineage.bytes.fill(8);
  expect_lost("another lineage");
  options_.lineage.bytes.fill(7);
  ASSERT_DONE(open());
  expect_epoch(now_, 1);
}

TEST_F(ApplyTest, OneSessionAtATime) {
  ASSERT_DONE(open());
  auto second = replicator::Target::open(storage_, options_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, replicator::Refusal::Kind::kBusy);
  replicator::TargetOptions other = options_;
  other.relationship = "ba9876543210";
  other.established = false;
  auto rival = replicator::Target::open(storage_, other);
  ASSERT_FALSE(rival.has_value());
  EXPECT_NE(reason(rival).find("another relationship"), std::string::npos);
  EXPECT_EQ(entries(folder_.path()), 2u);  // the target and its one stage
  target_->stop();
  EXPECT_EQ(target_->stage(), nullptr);
  target_.reset();
  EXPECT_TRUE(replicator::Target::open(storage_, options_).has_value());
}

TEST_F(ApplyTest, RemovingTheStageLeavesTheData) {
  now_.write(now_.create(now_.root, "f", 0100644), 0, "data");
  ASSERT_DONE(open());
  ship_everything();
  EXPECT_EQ(replicator::remove_stage(storage_, options_).error().kind,
            replicator::Refusal::Kind::kBusy);
  target_.reset();
  ASSERT_DONE(replicator::remove_stage(storage_, options_));
  EXPECT_FALSE(std::filesystem::exists(stage()));
  EXPECT_EQ(compare(now_, path()), "");
  ASSERT_DONE(replicator::remove_stage(storage_, options_));  // again: nothing to do
}

}  // namespace
}  // namespace epochfs::testing
