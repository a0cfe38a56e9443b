// The target against a model: whatever a source sends, the directory holds exactly that
// epoch in the end.
#include <capnp/rpc-twoparty.h>
#include <kj/async.h>

#include "replicator/target/receiver.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/unit/replicator/target/apply_support.h"
#include "tests/unit/replicator/target/operations.h"

namespace epochfs::testing {
namespace {

// ---- whole histories ----

TEST_F(ApplyTest, RandomHistoriesComeOutAsTheModelSays) {
  Random random;
  ASSERT_DONE(open());
  Operations operations(now_, random);
  operations.run(60);
  ship_everything();
  for (int epoch = 0; epoch < 120 && !HasFailure(); ++epoch) {
    operations.run(1 + random.below(40));
    SendOptions o{.piece = 1 + random.below(9000),
                  .holes = random.one_in(2),
                  .compressed = random.one_in(2),
                  .batch = 1 + random.below(40)};
    random.one_in(12) ? ship_everything(o) : ship_changes(o);
    if (random.one_in(10)) ASSERT_DONE(open());
  }
}

TEST_F(ApplyTest, ManySmallHistories) {
  Random random;
  ASSERT_DONE(open());
  ship_everything();
  for (int round = 0; round < 200 && !HasFailure(); ++round) {
    Operations(now_, random, 600).run(1 + random.below(6));
    if (now_.files.size() > 40) {
      while (!now_.at(now_.root).children.empty()) {
        now_.remove_tree(now_.root, now_.at(now_.root).children.begin()->first);
      }
    }
    ship_changes();
  }
}

// As the source does it: walks while the tree changes, then sends all that changed
// since the walk began, without cancelling anything.
TEST_F(ApplyTest, AWalkOfAChangingTreeAndThenItsChanges) {
  Random random;
  ASSERT_DONE(open());
  for (int round = 0; round < 40 && !HasFailure(); ++round) {
    Operations operations(now_, random, 3000);
    operations.run(random.below(60));
    TreeOracle before = now_;
    TransferSpec walk = everything(now_);
    operations.run(random.below(30));
    TransferSpec after = changes(before, now_);
    plan(walk, epoch_, epoch_ + 1);
    ASSERT_DONE(target_->begin(walk.plan));
    ASSERT_OK(send_all(*target_->stage(), walk));
    ASSERT_OK(send_all(*target_->stage(), after));
    ASSERT_DONE(target_->commit(walk.plan));
    shipped_ = now_;
    expect_epoch(now_, ++epoch_);
    operations.run(random.below(20));
    ship_changes();
  }
}

// Every call over RPC; the receiver's own work is to turn values into answers.
TEST_F(ApplyTest, TheSameOverRpc) {
  Random random;
  ASSERT_DONE(open());
  kj::EventLoop loop;
  kj::WaitScope wait(loop);
  std::vector<uint64_t> committed;
  rpc::Session::Client session = replicator::serve_session(
      std::move(target_),
      [&](const replicator::RecoveryPoint& point) { committed.push_back(point.cursor); });
  Operations operations(now_, random);
  for (uint64_t epoch = 1; epoch <= 12; ++epoch) {
    operations.run(40);
    TransferSpec spec = epoch == 1 ? everything(now_) : changes(shipped_, now_);
    plan(spec, epoch - 1, epoch);
    auto begin = session.beginRequest();
    write_plan(begin.initPlan(), spec.plan);
    auto begun = begin.send().wait(wait);
    ASSERT_TRUE(begun.getOutcome().isOk());
    auto t = begun.getTransfer();
    for (const NodeSpec& node : spec.nodes) {
      auto nodes = t.nodesRequest();
      write_node(nodes.initNodes(1)[0], node);
      nodes.send().wait(wait);
      for (const BlockSpec& b : blocks_of(node, 1 << 20, true, true)) {
        auto blocks = t.blocksRequest();
        write_block(blocks.initBlocks(1)[0], b);
        blocks.send().wait(wait);
      }
    }
    auto names = t.namesRequest();
    auto list = names.initNames(unsigned(spec.names.size()));
    for (unsigned i = 0; i < list.size(); ++i) write_name(list[i], spec.names[i]);
    names.send().wait(wait);
    if (spec.plan.full) {
      auto listed = t.listedRequest();
      auto dirs = listed.initDirectories(unsigned(spec.listed.size()));
      for (unsigned i = 0; i < dirs.size(); ++i) set(dirs[i], spec.listed[i]);
      listed.send().wait(wait);
    }
    auto commit = t.commitRequest();
    write_plan(commit.initPlan(), spec.plan);
    auto done = commit.send().wait(wait);
    ASSERT_TRUE(done.getOutcome().isOk());
    EXPECT_EQ(done.getState().getCursor(), epoch);
    EXPECT_EQ(compare(now_, path()), "");
    shipped_ = now_;
    // What is over is over, and a call of it is no more than a failed call.
    auto late = t.namesRequest();
    EXPECT_ANY_THROW(late.send().wait(wait));
  }
  EXPECT_EQ(committed.size(), 12u);
  EXPECT_EQ(entries(stage() + "/incoming"), 0u);
  auto begin = session.beginRequest();
  replicator::TransferPlan wrong{.epoch = 99, .base = 98, .root = now_.root};
  write_plan(begin.initPlan(), wrong);
  EXPECT_TRUE(begin.send().wait(wait).getOutcome().isUnknownState());
}

// ---- names ----

TEST_F(ApplyTest, NamesThatChangePlaces) {
  FileId a = now_.create(now_.root, "a", 0040755), b = now_.create(now_.root, "b", 0040755);
  now_.write(now_.create(a, "in-a", 0100644), 0, "A");
  now_.write(now_.create(b, "in-b", 0100644), 0, "B");
  for (const char* name : {"1", "2", "3"})
    now_.write(now_.create(now_.root, name, 0100600), 0, name);
  ASSERT_DONE(open());
  ship_everything();
  now_.exchange(now_.root, "a", now_.root, "b");
  now_.exchange(now_.root, "1", now_.root, "2");
  now_.exchange(now_.root, "2", now_.root, "3");  // a circle of three
  ship_changes();
  now_.rename(now_.root, "a", a, "below");  // b, whose name is a, moves into a
  now_.rename(now_.root, "b", now_.root, "a");
  ship_changes();
  now_.exchange(now_.root, "a", now_.root, "1");  // a directory and a file
  ship_changes();
}

TEST_F(ApplyTest, AParentAndItsChildChangePlaces) {
  FileId a = now_.create(now_.root, "a", 0040755);
  FileId b = now_.create(a, "b", 0040755);
  FileId c = now_.create(b, "c", 0040755);
  now_.write(now_.create(c, "f", 0100644), 0, "deep");
  ASSERT_DONE(open());
  ship_everything();
  now_.rename(a, "b", now_.root, "b");
  now_.rename(now_.root, "a", c, "a");  // now b/c/a, was a/b/c
  ship_changes();
  EXPECT_TRUE(exists("b/c/a"));
}

TEST_F(ApplyTest, ARenamedDirectoryTouchesNothingBelowIt) {
  FileId d = now_.create(now_.root, "many", 0040755);
  for (int i = 0; i < 300; ++i) now_.create(d, "f" + std::to_string(i), 0100644);
  ASSERT_DONE(open());
  ship_everything();
  auto before = stat_of("many/f7");
  now_.rename(now_.root, "many", now_.root, "other");
  TransferSpec spec = changes(shipped_, now_);
  EXPECT_EQ(spec.names.size(), 2u);
  ship(spec);
  auto after = stat_of("other/f7");
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
}

TEST_F(ApplyTest, HardLinksAcrossDirectoriesStayOneFile) {
  FileId d = now_.create(now_.root, "d", 0040755), e = now_.create(now_.root, "e", 0040755);
  FileId f = now_.create(d, "1", 0100644);
  now_.write(f, 0, "one file");
  now_.link(f, e, "2");
  now_.link(f, now_.root, "3");
  FileId s = now_.symlink(d, "s", "nowhere");
  now_.link(s, e, "s");
  ASSERT_DONE(open());
  ship_everything();
  auto inode = stat_of("d/1").st_ino;
  now_.link(f, e, "4");  // has a name that it keeps
  ship_changes();
  now_.rename(d, "1", now_.root, "x");  // all names change at once, some twice
  now_.unlink(e, "2");
  now_.rename(now_.root, "3", e, "2");
  now_.rename(e, "4", d, "1");
  ship_changes();
  now_.remove_tree(now_.root, "e");
  now_.remove_tree(now_.root, "d");  // one name is left
  now_.write(f, 3, "more");
  ship_changes();
  EXPECT_EQ(stat_of("x").st_ino, inode);
}

TEST_F(ApplyTest, ANameIsUsedAgainForAnotherType) {
  ASSERT_DONE(open());
  now_.write(now_.create(now_.root, "x", 0100644), 0, "file");
  ship_everything();
  now_.unlink(now_.root, "x");
  FileId d = now_.create(now_.root, "x", 0040755);
  now_.write(now_.create(d, "below", 0100644), 0, "b");
  ship_changes();
  now_.remove_tree(now_.root, "x");
  now_.symlink(now_.root, "x", "target");
  ship_changes();
  now_.unlink(now_.root, "x");
  now_.create(now_.root, "x", 0010600);
  ship_changes();
  now_.unlink(now_.root, "x");
  now_.create(now_.create(now_.root, "x", 0040700), "x", 0040700);
  ship_changes();
}

TEST_F(ApplyTest, ADirectoryGoesAndWhatWasInItStays) {
  FileId d = now_.create(now_.root, "d", 0040755);
  FileId e = now_.create(d, "e", 0040755);
  FileId f = now_.create(e, "f", 0100644);
  now_.write(f, 0, "kept");
  FileId sub = now_.create(e, "sub", 0040755);
  now_.write(now_.create(sub, "g", 0100644), 0, "kept too");
  ASSERT_DONE(open());
  ship_everything();
  auto inode = stat_of("d/e/f").st_ino;
  now_.rename(e, "f", now_.root, "f");
  now_.rename(e, "sub", now_.root, "sub");
  now_.remove_tree(now_.root, "d");
  TransferSpec spec = changes(shipped_, now_);
  // The names below what goes need not be said.
  std::erase_if(spec.names,
                [&](const replicator::NameMessage& n) { return n.entry.parent == e && !n.child; });
  ship(spec);
  EXPECT_EQ(stat_of("f").st_ino, inode);
}

TEST_F(ApplyTest, AnIdentityThatIsUsedAgainIsAnotherFile) {
  FileId f = now_.create(now_.root, "f", 0100644);
  now_.write(f, 0, "the first");
  now_.link(f, now_.root, "g");
  ASSERT_DONE(open());
  ship_everything();
  now_.unlink(now_.root, "f");
  now_.unlink(now_.root, "g");
  now_.write(now_.create(now_.root, "f", 0100644, f), 0, "the second");
  now_.link(f, now_.root, "h");
  ship_changes();
  now_.unlink(now_.root, "f");
  now_.unlink(now_.root, "h");
  now_.create(now_.create(now_.root, "f", 0040755, f), "below", 0100644);
  ship_changes();
  now_.remove_tree(now_.root, "f");
  now_.write(now_.create(now_.root, "f", 0100644, f), 0, "the fourth");
  ship_changes();
}

TEST_F(ApplyTest, PathsBeyondPathMax) {
  FileId at = now_.root;
  for (int i = 0; i < 40; ++i) at = now_.create(at, std::string(250, char('a' + i % 26)), 0040755);
  now_.write(now_.create(at, "bottom", 0100644), 0, "deep");
  ASSERT_DONE(open());
  ship_everything();
  now_.write(now_.at(at).children["bottom"], 2, "eper");
  ship_changes();
  FileId shallow = now_.at(now_.root).children.begin()->second;
  now_.rename(shallow, now_.at(shallow).children.begin()->first, now_.root, "half");
  ship_changes();
  now_.remove_tree(now_.root, "half");
  ship_changes();
}

TEST_F(ApplyTest, VeryDeepTreesComeAndGo) {
  FileId at = now_.root;
  std::vector<FileId> all;
  for (int i = 0; i < 3000; ++i) all.push_back(at = now_.create(at, "d", 0040755));
  ASSERT_DONE(open());
  TransferSpec spec = everything(now_);
  plan(spec, 0, 1);
  ASSERT_DONE(transfer(*target_, spec, {.batch = 1000}));
  TreeOracle before = std::exchange(now_, TreeOracle());
  now_.lsn = before.lsn;
  now_.touch(now_.root);
  TransferSpec gone;
  gone.plan.root = now_.root;
  gone.nodes.push_back(node_spec(now_, now_.root, replicator::Content::kNone, 0));
  gone.names.push_back({{now_.root, "d"}, {}});
  plan(gone, 1, 2);
  ASSERT_DONE(transfer(*target_, gone));
  ASSERT_DONE(target_->tidy());
  expect_epoch(now_, 2);
  EXPECT_EQ(entries(stage() + "/limbo"), 0u);
}

// ---- bytes and attributes ----

TEST_F(ApplyTest, HolesAreHoles) {
  constexpr uint64_t kBlock = 64 << 10;
  FileId sparse = now_.create(now_.root, "sparse", 0100644);
  now_.truncate(sparse, 64 * kBlock);
  now_.write(sparse, 10 * kBlock, std::string(kBlock, 'x'));
  FileId full = now_.create(now_.root, "full", 0100644);
  now_.write(full, 0, std::string(32 * kBlock, 'y'));
  FileId empty = now_.create(now_.root, "all hole", 0100644);
  now_.truncate(empty, 8 * kBlock);
  ASSERT_DONE(open());
  ship_everything({.piece = kBlock});
  EXPECT_LE(stat_of("sparse").st_blocks * 512, int64_t(2 * kBlock));
  EXPECT_EQ(stat_of("all hole").st_blocks, 0);
  EXPECT_GE(stat_of("full").st_blocks * 512, int64_t(32 * kBlock));
  now_.write(full, 4 * kBlock, std::string(16 * kBlock, '\0'));  // as a punched hole
  now_.write(sparse, 63 * kBlock, std::string(kBlock, 'z'));
  ship_changes({.piece = kBlock});
  EXPECT_LE(stat_of("full").st_blocks * 512, int64_t(17 * kBlock));
  now_.truncate(full, 100);
  now_.truncate(full, 2 * kBlock);  // what was behind must not come back
  ship_changes({.piece = kBlock});
}

TEST_F(ApplyTest, LargeRangesAndSmallOnes) {
  Random random;
  FileId f = now_.create(now_.root, "f", 0100644);
  std::string bytes(3 << 20, '\0');
  for (char& c : bytes) c = char(random.u64());
  now_.write(f, 0, bytes);
  ASSERT_DONE(open());
  ship_everything({.piece = 1 << 20});
  for (int i = 0; i < 20; ++i) {
    now_.write(f, random.below(3 << 20), std::string(1 + random.below(5000), char(i)));
    now_.write(f, random.below(3 << 20), std::string(1 + random.below(700'000), char(i + 100)));
    SendOptions o{
        .piece = 1 + random.below(1 << 20), .holes = true, .compressed = random.one_in(2)};
    ship(changes(shipped_, now_, 1 + random.below(100'000)), o);
  }
}

TEST_F(ApplyTest, AttributesAreExact) {
  FileId d = now_.create(now_.root, "d", 0041777);
  FileId f = now_.create(d, "f", 0106755);
  now_.write(f, 0, "x");
  now_.at(f).attributes.uid = 1234;
  now_.at(f).attributes.gid = 4321;
  now_.at(f).attributes.atime = {1'000'000'000, 999'999'999};
  now_.at(f).attributes.mtime = {-5, 1};
  now_.at(f).xattrs["user.big"] = std::string(2000, 'v');
  // An ACL: user::rwx user:7:r-- group::r-x mask::r-x other::r-x
  const unsigned char acl[] = {2,    0,    0,    0,    1,    0,    7,    0,    0xff, 0xff, 0xff,
                               0xff, 2,    0,    4,    0,    7,    0,    0,    0,    4,    0,
                               5,    0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,    5,    0,    0xff,
                               0xff, 0xff, 0xff, 0x20, 0,    5,    0,    0xff, 0xff, 0xff, 0xff};
  const std::string acl_bytes(reinterpret_cast<const char*>(acl), sizeof acl);
  now_.at(f).xattrs["system.posix_acl_access"] = acl_bytes;
  now_.at(d).xattrs["system.posix_acl_default"] = acl_bytes;
  // A capability, which chown and writing take away.
  const unsigned char capability[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  now_.at(f).xattrs["security.capability"] =
      std::string(reinterpret_cast<const char*>(capability), sizeof capability);
  now_.create(d, "inherits nothing", 0100600);
  ASSERT_DONE(open());
  TransferSpec spec = everything(now_);
  plan(spec, 0, 1);
  ASSERT_DONE(transfer(*target_, spec));
  EXPECT_EQ(stat_of("d/f").st_atim.tv_sec, 1'000'000'000);
  EXPECT_EQ(stat_of("d/f").st_atim.tv_nsec, 999'999'999);
  expect_epoch(now_, 1);
  shipped_ = now_;
  epoch_ = 1;
  now_.write(f, 0, "yy");
  now_.create(d, "later", 0100640);
  ship_changes();
  now_.at(f).xattrs.clear();
  now_.at(f).attributes.mode = 0100600;
  now_.at(d).xattrs.clear();
  now_.at(now_.root).attributes.mode = 0040710;
  now_.at(now_.root).xattrs["user.root"] = "yes";
  now_.touch(f), now_.touch(d), now_.touch(now_.root);
  ship_changes();
}

// So few that each is synced by itself, if it can be.
TEST_F(ApplyTest, AttributesOfFewFilesOfAnyType) {
  std::vector<FileId> files = {now_.root,
                               now_.create(now_.root, "fifo", 0010600),
                               now_.create(now_.root, "device", 0020600),
                               now_.symlink(now_.root, "link", "x"),
                               now_.create(now_.root, "file", 0100600),
                               now_.create(now_.root, "dir", 0040700)};
  ASSERT_DONE(open());
  ship_everything();
  for (FileId id : files) {
    ++now_.lsn;
    now_.at(id).attributes.uid = 77;
    now_.touch(id);
    ship_changes();
  }
}

// Its name does not change: the directory's time must not either.
TEST_F(ApplyTest, AReplacedFileLeavesItsDirectorysTimeAlone) {
  FileId d = now_.create(now_.root, "d", 0040755);
  FileId f = now_.create(d, "f", 0100644);
  now_.write(f, 0, "old");
  ASSERT_DONE(open());
  ship_everything();
  now_.write(f, 0, "new");
  TransferSpec spec;
  spec.plan.root = now_.root;
  spec.nodes.push_back(node_spec(now_, f, replicator::Content::kWhole, now_.lsn));
  ship(spec);
}

// ---- full transfers ----

TEST_F(ApplyTest, AFullTransferRemovesExtrasAndKeepsWhatIsRight) {
  Random random;
  ASSERT_DONE(open());
  Operations operations(now_, random);
  operations.run(150);
  ship_everything();
  for (int i = 0; i < 10; ++i) {
    operations.run(40);
    TransferSpec spec = everything(now_);
    plan(spec, epoch_, epoch_ + 1);
    uint64_t changed = 0;
    for (const NodeSpec& n : spec.nodes) {
      const OracleFile& file = now_.at(n.id);
      auto old = shipped_.files.find(n.id);
      bool same = old != shipped_.files.end() && old->second.data == file.data &&
                  old->second.attributes.ctime == file.attributes.ctime &&
                  old->second.attributes.mtime == file.attributes.mtime;
      if (!same) changed += file.data.size();
    }
    auto sent = transfer(*target_, spec);
    ASSERT_DONE(sent);
    EXPECT_LE(sent->bytes, changed);
    shipped_ = now_;
    expect_epoch(now_, ++epoch_);
  }
}

TEST_F(ApplyTest, AFullTransferMendsWhatAnotherHandDid) {
  FileId d = now_.create(now_.root, "d", 0040755);
  for (const char* name : {"edited", "removed", "replaced", "kept"}) {
    now_.write(now_.create(d, name, 0100644), 0, std::string(100, name[0]));
  }
  FileId e = now_.create(now_.root, "e", 0040755);
  now_.write(now_.create(e, "in-e", 0100644), 0, "e");
  now_.symlink(d, "link", "there");
  now_.write(now_.create(now_.create(now_.root, "gone", 0040755), "in-gone", 0100644), 0, "g");
  ASSERT_DONE(open());
  ship_everything();
  write_file(path() + "/d/edited", "by another hand");
  std::filesystem::remove(path() + "/d/removed");
  std::filesystem::remove(path() + "/d/replaced");
  std::filesystem::create_directories(path() + "/d/replaced/by/directories");
  std::filesystem::rename(path() + "/e", path() + "/moved away");
  std::filesystem::create_symlink("/etc", path() + "/e");
  std::filesystem::remove(path() + "/d/link");
  write_file(path() + "/d/link", "a file now");
  std::filesystem::remove_all(path() + "/gone");
  std::filesystem::create_directories(path() + "/foreign/tree");
  ship_everything();
  EXPECT_EQ(entries(stage() + "/limbo"), 0u);
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
}

TEST_F(ApplyTest, AnInterruptedFullTransferSendsOnlyTheRest) {
  Random random;
  Operations(now_, random).run(200);
  FileId large = now_.create(now_.root, "large", 0100644);
  now_.write(large, 0, std::string(1 << 20, 'x'));
  TransferSpec spec = everything(now_);
  plan(spec, 0, 1);
  uint64_t total = 0;
  for (const NodeSpec& n : spec.nodes) total += n.file.data.size();
  uint64_t sent_bytes = 0;
  size_t rounds = 0;
  for (bool complete = false; !complete; ++rounds) {
    ASSERT_DONE(open());  // the process was restarted
    auto sent = transfer(*target_, spec, {.holes = false, .batch = 4, .stop_after_blocks = 60});
    ASSERT_DONE(sent);
    complete = sent->complete;
    sent_bytes += sent->bytes;
    if (!complete) ASSERT_OK(target_->checkpoint());
    EXPECT_EQ(target_->state().staged_base, complete ? 0 : spec.plan.walk_since);
  }
  EXPECT_GT(rounds, 3u);
  EXPECT_EQ(sent_bytes, total);
  expect_epoch(now_, 1);
}

TEST_F(ApplyTest, AnInterruptedDeltaGoesOnInsideALaterOne) {
  FileId f = now_.create(now_.root, "f", 0100644), g = now_.create(now_.root, "g", 0100644);
  now_.write(f, 0, std::string(300'000, 'f'));
  now_.write(g, 0, std::string(300'000, 'g'));
  ASSERT_DONE(open());
  ship_everything();
  now_.write(f, 1000, std::string(200'000, 'F'));
  now_.write(g, 1000, std::string(200'000, 'G'));
  FileId fresh = now_.create(now_.root, "new", 0100644);
  now_.write(fresh, 0, std::string(100'000, 'n'));
  TransferSpec first = changes(shipped_, now_);
  plan(first, 1, 2);
  auto begun = transfer(*target_, first, {.batch = 1, .stop_after_blocks = 120});
  ASSERT_DONE(begun);
  ASSERT_FALSE(begun->complete);
  ASSERT_OK(target_->checkpoint());
  ASSERT_DONE(open());
  now_.write(g, 5, "later");  // what was staged of g is of no use
  TransferSpec merged = changes(shipped_, now_);
  plan(merged, 1, 3);
  auto sent = transfer(*target_, merged, {.batch = 1});
  ASSERT_DONE(sent);
  EXPECT_LT(sent->bytes, 500'000u - 100'000u);
  expect_epoch(now_, 3);
}

TEST_F(ApplyTest, ReplaceContentsRemovesWhatWasThereAtTheFirstCommit) {
  std::filesystem::create_directories(path() + "/old/tree");
  write_file(path() + "/old/tree/file", "precious");
  write_file(path() + "/same", "precious");
  std::filesystem::create_directories(path() + "/dir/old");
  auto refused = open();
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(reason(refused).find("not empty"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(stage()));
  EXPECT_TRUE(exists("old/tree/file"));

  options_.replace_contents = true;
  ASSERT_DONE(open());
  EXPECT_TRUE(exists("old/tree/file"));
  now_.write(now_.create(now_.root, "same", 0100644), 0, "new");
  now_.create(now_.create(now_.root, "dir", 0040755), "new", 0100644);
  ship_everything();
}

}  // namespace
}  // namespace epochfs::testing
