// Change set: is the fold of a range's records its net effect? Small cases by
// name, and random histories against a tree in memory.
#include "journal/changes/change_set.h"

#include <gtest/gtest.h>
#include <linux/fs.h>

#include <deque>
#include <set>

#include "tests/support/random.h"
#include "tests/unit/journal/changes/recorded_tree.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

constexpr FileId kA{10, 1}, kB{11, 1}, kC{12, 1}, kDir{13, 1}, kDir2{14, 1};

class FoldTest : public ::testing::Test {
 protected:
  Record& next(RecordType type, FileId file) {
    Record& r = records_.emplace_back();
    r.type = type;
    r.lsn = Lsn{records_.size() * 100};
    r.file = file;
    r.handle = handle_of(file);
    return r;
  }
  static FileHandle handle_of(FileId id) {
    FileHandle h;
    if (!id) return h;
    h.size = 8;
    std::memcpy(h.bytes.data(), &id.inode, 8);
    return h;
  }
  void named(RecordType type, FileId file, FileId parent, std::string_view name) {
    Record& r = next(type, file);
    r.parent = parent;
    r.parent_handle = handle_of(parent);
    r.name = name;
  }
  void create(FileId file, std::string_view name, FileId parent = kRoot) {
    named(RecordType::kCreate, file, parent, name);
  }
  void make_directory(FileId file, std::string_view name, FileId parent = kRoot) {
    named(RecordType::kMakeDirectory, file, parent, name);
  }
  void link(FileId file, std::string_view name, FileId parent = kRoot) {
    named(RecordType::kLink, file, parent, name);
  }
  void unlink(FileId file, std::string_view name, FileId parent = kRoot) {
    named(RecordType::kUnlink, file, parent, name);
  }
  void remove_directory(FileId file, std::string_view name, FileId parent = kRoot) {
    named(RecordType::kRemoveDirectory, file, parent, name);
  }
  void rename(FileId file, std::string_view from, std::string_view to, FileId other = kNone,
              uint32_t flags = 0, FileId parent = kRoot, FileId parent2 = kRoot) {
    named(RecordType::kRename, file, parent, from);
    Record& r = records_.back();
    r.parent2 = parent2;
    r.parent2_handle = handle_of(parent2);
    r.name2 = to;
    r.other = other;
    r.mode = flags;
  }
  void write(FileId file, uint64_t begin, uint64_t end) {
    next(RecordType::kWrite, file).range = {begin, end};
  }
  void truncate(FileId file, uint64_t size) {
    next(RecordType::kTruncate, file).range = {size, ByteRange::kEndOfFile};
  }
  void uncertain(FileId file, std::string_view name, FileId parent = kRoot) {
    named(RecordType::kUncertainName, file, parent, name);
  }
  ChangeSet fold(Fold::Cancel cancel = Fold::Cancel::kDrop) {
    Fold fold;
    for (const Record& r : records_) fold.add(r);
    ChangeSet set = fold.finish(cancel);
    EXPECT_TRUE(fold.finish().empty()) << "the fold is empty afterwards";
    return set;
  }
  // "name: before -> after" for each name, by inode, with ? where before is unknown.
  static std::vector<std::string> names(const ChangeSet& set) {
    std::vector<std::string> out;
    for (const auto& [key, change] : set.names) {
      out.push_back((key.parent == kRoot ? "" : std::to_string(key.parent.inode) + "/") + key.name +
                    ": " + (change.before_known ? std::to_string(change.before.inode) : "?") +
                    " -> " + std::to_string(change.after.inode));
    }
    return out;
  }
  using Names = std::vector<std::string>;

  std::deque<Record> records_;
};

TEST_F(FoldTest, NothingIsEmpty) {
  EXPECT_TRUE(fold().empty());
  next(RecordType::kSeal, kNone);
  next(RecordType::kPadding, kNone);
  EXPECT_TRUE(fold().empty());
  EXPECT_EQ(fold().records, 0u);
}

TEST_F(FoldTest, NewFileIsFreshAndAllOfItIsNew) {
  create(kA, "a");
  write(kA, 0, 10);
  ChangeSet set = fold();
  EXPECT_EQ(names(set), Names{"a: 0 -> 10"});
  const FileChange& a = set.files.at(kA);
  EXPECT_TRUE(a.fresh);
  EXPECT_FALSE(a.whole);
  EXPECT_TRUE(a.data.touches({uint64_t{1} << 40, (uint64_t{1} << 40) + 1}));
  EXPECT_EQ(a.last_data, Lsn{200});
  EXPECT_EQ(a.handle, handle_of(kA));
  EXPECT_TRUE(set.files.count(kRoot)) << "its directory's times changed";
  EXPECT_EQ(set.files.at(kRoot).handle, handle_of(kRoot));
}

TEST_F(FoldTest, FileMadeAndRemovedCostsNothing) {
  create(kA, "a");
  write(kA, 0, 1 << 30);
  unlink(kA, "a");
  ChangeSet set = fold();
  EXPECT_TRUE(set.names.empty());
  EXPECT_FALSE(set.files.count(kA));
  EXPECT_EQ(set.files.size(), 1u) << "only the directory's own attributes";
}

TEST_F(FoldTest, TreeMadeAndRemovedCostsNothing) {
  make_directory(kDir, "d");
  create(kA, "a", kDir);
  rename(kA, "a", "b", kNone, 0, kDir, kDir);
  unlink(kA, "b", kDir);
  remove_directory(kDir, "d");
  ChangeSet set = fold();
  EXPECT_TRUE(set.names.empty());
  EXPECT_EQ(set.files.size(), 1u);
}

TEST_F(FoldTest, NameUsedAgainIsAnotherFile) {
  unlink(kA, "a");
  create(kB, "a");
  EXPECT_EQ(names(fold()), Names{"a: 10 -> 11"});
}

TEST_F(FoldTest, CreateUnlinkCreateIsTheLastFile) {
  create(kA, "a");
  unlink(kA, "a");
  create(kB, "a");
  ChangeSet set = fold();
  EXPECT_EQ(names(set), Names{"a: 0 -> 11"});
  EXPECT_FALSE(set.files.count(kA));
  EXPECT_TRUE(set.files.at(kB).fresh);
}

TEST_F(FoldTest, FileOfTheSameIdentityIsAnotherFileStill) {
  // Removed and made again within one tick of the clock, with its inode number.
  unlink(kA, "a");
  create(kA, "a");
  ChangeSet set = fold();
  EXPECT_EQ(names(set), Names{"a: 10 -> 10"});
  EXPECT_TRUE(set.files.at(kA).fresh);
}

TEST_F(FoldTest, ReplacedFileIsNamed) {
  create(kB, "new");
  rename(kB, "new", "a", kA);
  EXPECT_EQ(names(fold()), Names{"a: 10 -> 11"});
}

TEST_F(FoldTest, RenameThereAndBackCancels) {
  rename(kA, "a", "b");
  rename(kA, "b", "a");
  ChangeSet set = fold();
  EXPECT_TRUE(set.names.empty());
  EXPECT_TRUE(set.files.count(kA)) << "its ctime changed";
  EXPECT_TRUE(set.files.at(kA).data.empty());
}

TEST_F(FoldTest, CancelledNamesAreKeptOnRequest) {
  rename(kA, "a", "b");
  rename(kA, "b", "a");
  create(kB, "c");
  unlink(kB, "c");
  EXPECT_EQ(names(fold(Fold::Cancel::kKeep)), (Names{"a: 10 -> 10", "b: 0 -> 0", "c: 0 -> 0"}));
}

TEST_F(FoldTest, RenameCycleIsThreeNames) {
  rename(kA, "a", "tmp");
  rename(kB, "b", "a");
  rename(kC, "c", "b");
  rename(kA, "tmp", "c");
  EXPECT_EQ(names(fold()), (Names{"a: 10 -> 11", "b: 11 -> 12", "c: 12 -> 10"}));
}

TEST_F(FoldTest, ExchangeSwapsTwoNames) {
  rename(kA, "a", "b", kB, RENAME_EXCHANGE);
  EXPECT_EQ(names(fold()), (Names{"a: 10 -> 11", "b: 11 -> 10"}));
  rename(kB, "a", "b", kA, RENAME_EXCHANGE);
  EXPECT_TRUE(fold().names.empty());
}

TEST_F(FoldTest, RenameOfADirectoryIsOneName) {
  rename(kDir, "d", "e");
  write(kA, 0, 1);
  ChangeSet set = fold();
  EXPECT_EQ(names(set), (Names{"d: 13 -> 0", "e: 0 -> 13"}));
}

TEST_F(FoldTest, RenameBetweenTwoNamesOfOneFileIsNothing) {
  rename(kA, "a", "b", kA);
  rename(kA, "a", "a", kA);
  EXPECT_TRUE(fold().names.empty());
}

TEST_F(FoldTest, DirectoriesTradePlaces) {
  // d/e becomes e/d.
  rename(kDir2, "e", "e", kNone, 0, kDir, kRoot);
  rename(kDir, "d", "d", kNone, 0, kRoot, kDir2);
  EXPECT_EQ(names(fold()), (Names{"d: 13 -> 0", "e: 0 -> 14", "13/e: 14 -> 0", "14/d: 0 -> 13"}));
}

TEST_F(FoldTest, HardLinksAreNamesOfOneFile) {
  link(kA, "b");
  unlink(kA, "a");
  ChangeSet set = fold();
  EXPECT_EQ(names(set), (Names{"a: 10 -> 0", "b: 0 -> 10"}));
  EXPECT_FALSE(set.files.at(kA).fresh);
  EXPECT_TRUE(set.files.at(kA).data.empty()) << "no byte of it is sent";
}

TEST_F(FoldTest, NewFileKeptByItsSecondName) {
  create(kA, "a");
  link(kA, "b");
  unlink(kA, "a");
  ChangeSet set = fold();
  EXPECT_EQ(names(set), Names{"b: 0 -> 10"});
  EXPECT_TRUE(set.files.at(kA).fresh);
}

TEST_F(FoldTest, TemporaryFileAppearsWithItsName) {
  next(RecordType::kTemporary, kA);
  write(kA, 0, 10);
  link(kA, "a");
  ChangeSet set = fold();
  EXPECT_EQ(names(set), Names{"a: 0 -> 10"});
  EXPECT_TRUE(set.files.at(kA).fresh);
}

TEST_F(FoldTest, TemporaryFileWithoutANameCostsNothing) {
  next(RecordType::kTemporary, kA);
  write(kA, 0, 10);
  ChangeSet set = fold();
  EXPECT_TRUE(set.names.empty());
  EXPECT_TRUE(set.files.empty());
}

TEST_F(FoldTest, OverwrittenExtentIsOneRange) {
  for (int i = 0; i < 1000; ++i) write(kA, 4096, 8192);
  write(kA, 8192, 12288);
  write(kA, 0, 10);
  ChangeSet set = fold();
  const FileChange& a = set.files.at(kA);
  EXPECT_EQ(a.data.count(), 2u);
  EXPECT_EQ(a.data.bytes(), 8192u + 10);
  EXPECT_FALSE(a.fresh);
  EXPECT_EQ(a.last_data, Lsn{100 * 1002});
  EXPECT_EQ(set.records, 1002u);
}

TEST_F(FoldTest, TruncateAndExtendLeavesNoOldByte) {
  truncate(kA, 50);
  truncate(kA, 1000);
  ChangeSet set = fold();
  EXPECT_TRUE(set.files.at(kA).data.touches({50, 51}));
  EXPECT_FALSE(set.files.at(kA).data.touches({0, 50}));
}

TEST_F(FoldTest, AttributesChangeNoByte) {
  next(RecordType::kSetAttributes, kA).mode = 1;
  next(RecordType::kSetXattr, kB).name = "user.x";
  next(RecordType::kRemoveXattr, kC).name = "user.x";
  ChangeSet set = fold();
  EXPECT_EQ(set.files.size(), 3u);
  for (const auto& [id, change] : set.files) {
    EXPECT_TRUE(change.data.empty());
    EXPECT_EQ(change.last_data, Lsn{0});
  }
  EXPECT_TRUE(set.names.empty()) << "an xattr's name is no file's";
}

TEST_F(FoldTest, GapCountsForEverything) {
  next(RecordType::kGap, kNone).mode = uint32_t(GapReason::kJournalFull);
  ChangeSet set = fold();
  EXPECT_TRUE(set.gap);
  EXPECT_EQ(set.gap_lsn, Lsn{100});
  EXPECT_FALSE(set.empty());
}

TEST_F(FoldTest, UncertainNameNeverCancels) {
  uncertain(kNone, "gone");
  uncertain(kA, "there");
  create(kB, "made and lost");
  uncertain(kNone, "made and lost");
  ChangeSet set = fold();
  EXPECT_EQ(names(set), (Names{"gone: ? -> 0", "made and lost: ? -> 0", "there: ? -> 10"}));
  EXPECT_TRUE(set.files.at(kA).whole);
  EXPECT_FALSE(set.files.count(kB));
}

TEST_F(FoldTest, NameThatIsCertainAgainKeepsItsUnknownPast) {
  uncertain(kA, "a");
  unlink(kA, "a");
  EXPECT_EQ(names(fold()), Names{"a: ? -> 0"});
}

TEST_F(FoldTest, UncertainFreshFileIsKeptThoughItsNameIsGone) {
  create(kA, "a");
  uncertain(kA, "b");  // a rename that may have happened
  unlink(kA, "a");
  unlink(kA, "b");
  EXPECT_TRUE(fold().files.count(kA));
}

// ---- random histories ----

TEST(FoldModel, RandomHistoriesFoldToTheirNetEffect) {
  const uint64_t first = Random().seed();
  for (uint64_t history = first; history < first + 4000; ++history) {
    Random random(history);
    RecordedTree model;
    for (int range = 0; range < 8; ++range) {
      const auto before = model.snapshot();
      std::deque<Record> records;
      const uint64_t steps = 1 + random.below(60);
      for (uint64_t i = 0; i < steps; ++i) model.step(random, records);
      Fold fold;
      for (const Record& r : records) fold.add(r);
      const ChangeSet set = fold.finish();
      check(before, model.snapshot(), set);
      check_excess(records, set);
      if (::testing::Test::HasFatalFailure()) {
        FAIL() << "EPOCHFS_TEST_SEED=" << history << ", range " << range;
      }
    }
  }
}

// Ranges that were folded apart tell the same as one that was folded in one go,
// as far as names go: what a merge forward relies on.
TEST(FoldModel, LongRangeTellsTheSameAsItsParts) {
  const uint64_t first = Random().seed();
  for (uint64_t history = first; history < first + 2000; ++history) {
    Random random(history);
    RecordedTree model;
    std::deque<Record> records;
    for (int i = 0; i < 30; ++i) model.step(random, records);
    records.clear();
    const auto before = model.snapshot();
    std::map<NameKey, FileId> applied;
    for (const auto& [key, node] : before.names) applied[key] = node.id;
    Fold whole;
    for (int part = 0; part < 5; ++part) {
      std::deque<Record> more;
      for (int i = 0; i < 20; ++i) model.step(random, more);
      Fold fold;
      for (const Record& r : more) {
        fold.add(r);
        whole.add(r);
      }
      for (const auto& [key, change] : fold.finish().names) {
        if (change.after) {
          applied[key] = change.after;
        } else {
          applied.erase(key);
        }
      }
    }
    std::map<NameKey, FileId> in_one;
    for (const auto& [key, node] : before.names) in_one[key] = node.id;
    for (const auto& [key, change] : whole.finish().names) {
      if (change.after) {
        in_one[key] = change.after;
      } else {
        in_one.erase(key);
      }
    }
    ASSERT_EQ(applied, in_one) << "EPOCHFS_TEST_SEED=" << history;
    const auto after = model.snapshot();
    ASSERT_EQ(in_one.size(), after.names.size());
    for (const auto& [key, node] : after.names) ASSERT_EQ(in_one.at(key), node.id);
  }
}

}  // namespace
}  // namespace epochfs::journal
