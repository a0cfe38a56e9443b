// The target against a model: whatever a source sends, and wherever the target is
// stopped, the directory holds exactly one epoch in the end.
#include "replicator/target/apply.h"

#include <capnp/rpc-twoparty.h>
#include <kj/async.h>

#include "replicator/target/receiver.h"
#include "tests/unit/target_support.h"

namespace epochfs::testing {
namespace {

// A target directory, and a source that is a model.
class ApplyTest : public ::testing::Test {
 protected:
  ApplyTest() { std::filesystem::create_directory(path()); }

  std::string path() const { return folder_ / "target"; }

  Outcome<void> open(Steps* steps = nullptr) {
    target_.reset();
    EPOCHFS_TRY(target_, Target::open(storage(), options_, steps));
    options_.established = true;
    return {};
  }
  virtual Storage& storage() { return storage_; }

  void plan(TransferSpec& spec, uint64_t base, uint64_t epoch) {
    spec.plan.base = base;
    spec.plan.epoch = epoch;
    spec.plan.state_hash = epoch * 31;
    spec.plan.barrier_ns = epoch * 1'000'000'007;
    spec.plan.walk_since = spec.plan.full ? epoch : 0;
  }

  // Ships the model as it is now, as the next epoch.
  void ship(TransferSpec spec, const SendOptions& options = {}) {
    plan(spec, epoch_, epoch_ + 1);
    ASSERT_DONE(transfer(*target_, spec, options));
    ++epoch_;
    shipped_ = now_;
    expect_epoch(now_, epoch_);
    ASSERT_DONE(target_->tidy());
  }
  void ship_changes(const SendOptions& options = {}) { ship(changes(shipped_, now_), options); }
  void ship_everything(const SendOptions& options = {}) { ship(everything(now_), options); }

  void expect_epoch(const Model& model, uint64_t epoch) {
    EXPECT_EQ(target_->state().cursor, epoch);
    EXPECT_EQ(target_->state().state_hash, epoch * 31);
    EXPECT_EQ(target_->state().barrier_ns, epoch * 1'000'000'007);
    EXPECT_EQ(compare(model, path()), "");
  }
  bool exists(const std::string& name) { return ::access((path() + "/" + name).c_str(), F_OK) == 0; }
  struct stat stat_of(const std::string& name) {
    struct stat s{};
    ::lstat((path() + "/" + name).c_str(), &s);
    return s;
  }
  std::string stage() const { return folder_ / ".epochfs-" + kRelationship; }
  size_t entries(const std::string& folder) {
    size_t n = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(folder)) ++n;
    return n;
  }

  TemporaryDirectory folder_;
  LazyStorage storage_;
  TargetOptions options_ = target_options(folder_);
  std::unique_ptr<Target> target_;
  Model now_, shipped_;
  uint64_t epoch_ = 0;
};

// ---- whole histories ----

TEST_F(ApplyTest, RandomHistoriesComeOutAsTheModelSays) {
  Random random;
  ASSERT_DONE(open());
  Operations operations(now_, random);
  operations.run(60);
  ship_everything();
  for (int epoch = 0; epoch < 120 && !HasFailure(); ++epoch) {
    operations.run(1 + random.below(40));
    SendOptions o{.piece = 1 + random.below(9000), .holes = random.one_in(2),
                  .compressed = random.one_in(2), .batch = 1 + random.below(40)};
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
    Model before = now_;
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
  rpc::Session::Client session = serve_session(
      std::move(target_), [&](const RecoveryPoint& point) { committed.push_back(point.cursor); });
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
  TransferPlan wrong{.epoch = 99, .base = 98, .root = now_.root};
  write_plan(begin.initPlan(), wrong);
  EXPECT_TRUE(begin.send().wait(wait).getOutcome().isUnknownState());
}

// ---- names ----

TEST_F(ApplyTest, NamesThatChangePlaces) {
  FileId a = now_.create(now_.root, "a", 0040755), b = now_.create(now_.root, "b", 0040755);
  now_.write(now_.create(a, "in-a", 0100644), 0, "A");
  now_.write(now_.create(b, "in-b", 0100644), 0, "B");
  for (const char* name : {"1", "2", "3"}) now_.write(now_.create(now_.root, name, 0100600), 0, name);
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
  std::erase_if(spec.names, [&](const NameMessage& n) { return n.entry.parent == e && !n.child; });
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
  Model before = std::exchange(now_, Model());
  now_.lsn = before.lsn;
  now_.touch(now_.root);
  TransferSpec gone;
  gone.plan.root = now_.root;
  gone.nodes.push_back(node_spec(now_, now_.root, Content::kNone, 0));
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
    SendOptions o{.piece = 1 + random.below(1 << 20), .holes = true, .compressed = random.one_in(2)};
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
  const unsigned char acl[] = {2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 7, 0, 0, 0,
                               4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
                               0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff};
  const std::string acl_bytes(reinterpret_cast<const char*>(acl), sizeof acl);
  now_.at(f).xattrs["system.posix_acl_access"] = acl_bytes;
  now_.at(d).xattrs["system.posix_acl_default"] = acl_bytes;
  // A capability, which chown and writing take away.
  const unsigned char capability[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  now_.at(f).xattrs["security.capability"] = std::string(reinterpret_cast<const char*>(capability), sizeof capability);
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
  std::vector<FileId> files = {now_.root, now_.create(now_.root, "fifo", 0010600),
                               now_.create(now_.root, "device", 0020600), now_.symlink(now_.root, "link", "x"),
                               now_.create(now_.root, "file", 0100600), now_.create(now_.root, "dir", 0040700)};
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
  spec.nodes.push_back(node_spec(now_, f, Content::kWhole, now_.lsn));
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
      auto old = shipped_.files.find(n.id);
      bool same = old != shipped_.files.end() && old->second.data == n.file.data &&
                  old->second.attributes.ctime == n.file.attributes.ctime &&
                  old->second.attributes.mtime == n.file.attributes.mtime;
      if (!same) changed += n.file.data.size();
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
  write_all(path() + "/d/edited", "by another hand");
  std::filesystem::remove(path() + "/d/removed");
  std::filesystem::remove(path() + "/d/replaced");
  std::filesystem::create_directories(path() + "/d/replaced/by/directories");
  std::filesystem::rename(path() + "/e", path() + "/moved away");
  std::filesystem::create_symlink("/etc", path() + "/e");
  std::filesystem::remove(path() + "/d/link");
  write_all(path() + "/d/link", "a file now");
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
  write_all(path() + "/old/tree/file", "precious");
  write_all(path() + "/same", "precious");
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

// ---- refusals ----

TEST_F(ApplyTest, ADeltaNeedsItsBase) {
  ASSERT_DONE(open());
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 0, 1);
  auto begun = target_->begin(spec.plan);  // there is no epoch to build on yet
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, Refusal::Kind::kUnknownState);
  ship_everything();
  plan(spec, 2, 3);
  begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, Refusal::Kind::kUnknownState);
  plan(spec, 1, 2);
  spec.plan.root = {99, 99};
  begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, Refusal::Kind::kUnknownState);
}

TEST_F(ApplyTest, WhatAnotherHandChangedIsNotBuiltUpon) {
  FileId f = now_.create(now_.root, "f", 0100644), d = now_.create(now_.root, "d", 0040755);
  now_.write(f, 0, std::string(100, 'f'));
  FileId g = now_.create(d, "g", 0100644);
  ASSERT_DONE(open());
  struct Case { std::function<void()> meddle, change; };
  const std::vector<Case> cases = {
      {[&] { write_all(path() + "/f", "other bytes"); }, [&] { now_.write(f, 10, "x"); }},
      {[&] { std::filesystem::remove(path() + "/f"); }, [&] { now_.write(f, 10, "x"); }},
      {[&] { std::filesystem::remove(path() + "/d/g"); }, [&] { now_.rename(d, "g", now_.root, "g"); }},
      {[&] { std::filesystem::rename(path() + "/d", path() + "/e"); }, [&] { now_.rename(now_.root, "d", now_.root, "x"); }},
  };
  for (const Case& c : cases) {
    now_ = Model();
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
    EXPECT_EQ(done.error().kind, Refusal::Kind::kUnknownState) << reason(done);
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
  const Model start = now_;
  for (const auto& change : changes_to_make) {
    now_ = start;
    ship_everything();
    meddle();
    const auto before = read_all(outside + "/f");
    change();
    TransferSpec spec = changes(shipped_, now_);
    plan(spec, epoch_, epoch_ + 1);
    auto done = transfer(*target_, spec);
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().kind, Refusal::Kind::kUnknownState) << reason(done);
    EXPECT_EQ(target_->state().cursor, epoch_);
    EXPECT_EQ(entries(outside), 1u);
    EXPECT_EQ(read_all(outside + "/f"), before);
    ship_everything();
    EXPECT_EQ(entries(outside), 1u);
    std::filesystem::remove_all(outside);
  }
}

// Too late for a refusal: the epoch is given up, and only a full transfer helps.
TEST_F(ApplyTest, WhatAnotherHandTakesAwayAfterTheMarkIsNoEpoch) {
  struct Meddler : Steps {
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
  EXPECT_EQ(done.error().kind, Refusal::Kind::kUnknownState) << reason(done);
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
  const std::vector<std::vector<NameMessage>> bad = {
      {{{now_.root, "a"}, {}}, {{b, "a"}, a}},            // a circle
      {{{b, "b"}, b}},                                    // a directory in itself
      {{{a, "again"}, now_.root}},                        // the root, with a name
      {{{now_.root, "x"}, unknown}},                      // a file that nobody announced
      {{{unknown, "x"}, f}},                              // a directory that nobody announced
      {{{f, "x"}, b}, {{now_.root, "y"}, b}},             // two names of a directory
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
    EXPECT_EQ(done.error().kind, Refusal::Kind::kUnknownState) << reason(done);
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
  write_all(folder_ / "sentinel", "untouched");
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
      if (is_regular(node.file.attributes.mode)) {
        node.file.data = std::string(random.below(30'000), char(random.u64()));
        node.content = node.fresh ? Content::kWhole : Content(random.below(3));
        if (node.content != Content::kNone) node.ranges.add({0, random.below(node.file.data.size() + 1)});
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
      if (random.one_in(4)) [[maybe_unused]] auto gone = send_forgotten(*target_->stage(), {{1 + random.below(11), 1}});
      auto done = target_->commit(spec.plan);
      committed += done.has_value();
    }
    epoch_ = target_->state().cursor;
    EXPECT_EQ(read_all(folder_ / "sentinel"), "untouched");
    EXPECT_EQ(entries(folder_.path()), outside);
    if (random.one_in(10)) ASSERT_DONE(open());
    if (!random.one_in(8)) continue;
    now_ = Model();
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
    EXPECT_EQ(opened.error().kind, Refusal::Kind::kTargetLost) << what << ": " << reason(opened);
  };
  // While a session is open.
  std::filesystem::rename(path(), folder_ / "elsewhere");
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  auto begun = target_->begin(spec.plan);
  ASSERT_FALSE(begun.has_value());
  EXPECT_EQ(begun.error().kind, Refusal::Kind::kTargetLost);

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
  auto second = Target::open(storage_, options_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, Refusal::Kind::kBusy);
  TargetOptions other = options_;
  other.relationship = "ba9876543210";
  other.established = false;
  auto rival = Target::open(storage_, other);
  ASSERT_FALSE(rival.has_value());
  EXPECT_NE(reason(rival).find("another relationship"), std::string::npos);
  EXPECT_EQ(entries(folder_.path()), 2u);  // the target and its one stage
  target_->stop();
  EXPECT_EQ(target_->stage(), nullptr);
  target_.reset();
  EXPECT_TRUE(Target::open(storage_, options_).has_value());
}

TEST_F(ApplyTest, RemovingTheStageLeavesTheData) {
  now_.write(now_.create(now_.root, "f", 0100644), 0, "data");
  ASSERT_DONE(open());
  ship_everything();
  EXPECT_EQ(remove_stage(storage_, options_).error().kind, Refusal::Kind::kBusy);
  target_.reset();
  ASSERT_DONE(remove_stage(storage_, options_));
  EXPECT_FALSE(std::filesystem::exists(stage()));
  EXPECT_EQ(compare(now_, path()), "");
  ASSERT_DONE(remove_stage(storage_, options_));  // again: nothing to do
}

// ---- crashes ----

struct Crash {};

// Stops the target at the n-th call that it can be stopped at.
class Crasher : public LazyStorage, public Steps {
 public:
  size_t calls = 0;
  size_t crash_at = SIZE_MAX;
  std::string where;

  Result<void> at(const char* label) override { return call(label); }

 protected:
  Result<void> call(const char* label) override {
    if (++calls < crash_at) return {};
    where = label;
    throw Crash();
  }
};

class CrashTest : public ApplyTest {
 protected:
  Storage& storage() override { return crasher_; }

  // Ships spec as epoch 2, stopping at call n, and once more at call `again`
  // while it is finished. False: it ran through without a stop at n.
  bool ship_with_crash(const TransferSpec& spec, size_t n, size_t again) {
    crasher_.calls = 0;
    crasher_.crash_at = n;
    bool crashed = false;
    try {
      ASSERT_DONE_OR_FALSE(transfer(*target_, spec));
    } catch (const Crash&) {
      crashed = true;
    }
    const std::string where = crasher_.where;
    for (size_t at : {again, SIZE_MAX}) {
      crasher_.calls = 0;
      crasher_.crash_at = at;
      try {
        auto opened = open(&crasher_);
        EXPECT_TRUE(opened.has_value()) << where << ": " << reason(opened);
        if (!opened) return false;
        break;
      } catch (const Crash&) {
      }
    }
    crasher_.crash_at = SIZE_MAX;
    if (target_->state().cursor == 1) {
      EXPECT_EQ(compare(shipped_, path()), "") << "before the mark, stopped at " << where;
      auto done = transfer(*target_, spec);
      EXPECT_TRUE(done.has_value()) << reason(done);
    }
    EXPECT_EQ(compare(now_, path()), "") << "stopped at " << where << ", call " << n;
    EXPECT_EQ(target_->state().cursor, 2u);
    EXPECT_TRUE(target_->tidy().has_value());
    for (const char* folder : {"/incoming", "/extents", "/limbo"}) {
      EXPECT_EQ(entries(stage() + folder), 0u) << folder << " after " << where;
    }
    return crashed;
  }

  static bool ASSERT_DONE_OR_FALSE(const Outcome<Sent>& o) {
    EXPECT_TRUE(o.has_value()) << reason(o);
    return o.has_value();
  }

  // A directory that holds shipped_ as epoch 1.
  void prepare() {
    target_.reset();
    std::filesystem::remove_all(path());
    std::filesystem::remove_all(stage());
    std::filesystem::create_directory(path());
    options_.established = false;
    crasher_.crash_at = SIZE_MAX;
    auto opened = open(&crasher_);
    ASSERT_DONE(opened);
    TransferSpec spec = everything(shipped_);
    plan(spec, 0, 1);
    ASSERT_DONE(transfer(*target_, spec));
    ASSERT_DONE(target_->tidy());
  }

  void enumerate(const TransferSpec& spec, Random& random) {
    for (size_t n = 1; !HasFailure(); ++n) {
      prepare();
      if (HasFatalFailure()) return;
      if (!ship_with_crash(spec, n, random.one_in(2) ? 1 + random.below(30) : SIZE_MAX)) {
        std::printf("%zu places to stop at\n", n - 1);
        return;
      }
    }
  }

  Crasher crasher_;
};

TEST_F(CrashTest, EveryStopOfADeltaEndsInOneEpoch) {
  Random random;
  Operations operations(shipped_, random, 3000);
  operations.run(80);
  now_ = shipped_;
  Operations(now_, random, 3000).run(40);
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  enumerate(spec, random);
}

TEST_F(CrashTest, EveryStopOfAFullTransferEndsInOneEpoch) {
  Random random;
  Operations operations(shipped_, random, 3000);
  operations.run(80);
  now_ = shipped_;
  Operations(now_, random, 3000).run(40);
  TransferSpec spec = everything(now_);
  plan(spec, 1, 2);
  enumerate(spec, random);
}

TEST_F(CrashTest, EveryStopOfSwapsAndReuseEndsInOneEpoch) {
  Random random;
  Model& m = shipped_;
  FileId a = m.create(m.root, "a", 0040755), b = m.create(m.root, "b", 0040755);
  FileId f = m.create(a, "f", 0100644);
  m.write(f, 0, "in a");
  m.write(m.create(b, "f", 0100644), 0, "in b");
  m.link(f, m.root, "f");
  m.create(m.create(m.root, "gone", 0040755), "x", 0100644);
  m.write(m.create(m.root, "log", 0100644), 0, "first log");
  now_ = m;
  now_.exchange(now_.root, "a", now_.root, "b");
  now_.exchange(a, "f", b, "f");
  now_.remove_tree(now_.root, "gone");
  now_.create(now_.create(now_.root, "gone", 0040755), "y", 0100644);
  now_.rename(now_.root, "log", now_.root, "log.1");
  now_.write(now_.create(now_.root, "log", 0100644), 0, "second log");
  now_.rename(now_.root, "f", b, "g");
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  enumerate(spec, random);
}

TEST_F(CrashTest, EveryStopOfReplacingContents) {
  now_.write(now_.create(now_.root, "same", 0100644), 0, "new");
  now_.create(now_.create(now_.root, "dir", 0040755), "new", 0100644);
  TransferSpec spec = everything(now_);
  plan(spec, 0, 1);
  options_.replace_contents = true;
  for (size_t n = 1;; ++n) {
    target_.reset();
    std::filesystem::remove_all(path());
    std::filesystem::remove_all(stage());
    std::filesystem::create_directories(path() + "/dir/old");
    write_all(path() + "/same", "old");
    options_.established = false;
    crasher_.crash_at = SIZE_MAX;
    ASSERT_DONE(open(&crasher_));
    crasher_.calls = 0;
    crasher_.crash_at = n;
    bool crashed = false;
    try {
      ASSERT_DONE(transfer(*target_, spec));
    } catch (const Crash&) {
      crashed = true;
    }
    crasher_.crash_at = SIZE_MAX;
    ASSERT_DONE(open(&crasher_));
    if (target_->state().cursor == 0) {
      ASSERT_TRUE(exists("dir/old"));  // not before the mark
      ASSERT_DONE(transfer(*target_, spec));
    }
    ASSERT_EQ(compare(now_, path()), "") << "stopped at " << crasher_.where;
    if (!crashed) break;
  }
}

}  // namespace
}  // namespace epochfs::testing
