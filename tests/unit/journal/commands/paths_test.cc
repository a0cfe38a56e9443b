// Paths: what was a file called when a record was made, whatever came before and after?
#include <linux/fs.h>  // RENAME_EXCHANGE

#include "journal/commands/names/paths.h"
#include "journal/commands/query/log_query.h"
#include "tests/support/expect.h"
#include "tests/support/random.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::testing {
namespace {

class PathsTest : public JournalTest {
 protected:
  void SetUp() override { open(); }
  FileId root() const { return volume_.info().identity.root; }
  static FileId id(uint64_t inode) { return {inode, 1}; }

  Lsn append(journal::Record r) { return journal_->append(r); }
  Lsn name(journal::RecordType type, uint64_t inode, const FileId& parent, std::string_view name) {
    journal::Record r;
    r.type = type;
    r.file = id(inode);
    r.parent = parent;
    r.name = name;
    return append(r);
  }
  Lsn mkdir(uint64_t inode, const FileId& parent, std::string_view name_) {
    return name(journal::RecordType::kMakeDirectory, inode, parent, name_);
  }
  Lsn create(uint64_t inode, const FileId& parent, std::string_view name_) {
    return name(journal::RecordType::kCreate, inode, parent, name_);
  }
  Lsn rename(uint64_t inode, const FileId& from, std::string_view name_, const FileId& to,
             std::string_view name2, const FileId& other = {}, uint32_t flags = 0) {
    journal::Record r;
    r.type = journal::RecordType::kRename;
    r.file = id(inode);
    r.parent = from;
    r.name = name_;
    r.parent2 = to;
    r.name2 = name2;
    r.other = other;
    r.mode = flags;
    return append(r);
  }
  Lsn write(uint64_t inode) { return append(write_of(inode)); }

  journal::Path path(Lsn at) {
    if (!view_) view_ = std::make_unique<journal::LogView>(must(journal::LogView::open(volume_)));
    if (!paths_)
      paths_ = std::make_unique<journal::PathResolver>(*view_, journal::PathResolver::Options{});
    const journal::Decoded d = view_->record_at(at);
    EXPECT_EQ(d.error, journal::DecodeError::kNone);
    return paths_->path_of(d.record);
  }
  std::string text(Lsn at) { return path(at).shown(); }

  std::unique_ptr<journal::LogView> view_;
  std::unique_ptr<journal::PathResolver> paths_;
};

TEST_F(PathsTest, FollowTheFileThroughItsRenames) {
  mkdir(10, root(), "a");
  mkdir(11, id(10), "b");
  create(20, id(11), "file");
  const Lsn before = write(20);
  rename(20, id(11), "file", root(), "moved");
  const Lsn after = write(20);
  EXPECT_EQ(text(after), "moved");
  EXPECT_EQ(text(before), "a/b/file") << "asked in any order";
}

TEST_F(PathsTest, FollowDirectoriesAboveTheFileToo) {
  mkdir(10, root(), "old");
  mkdir(11, id(10), "sub");
  create(20, id(11), "file");
  const Lsn first = write(20);
  rename(10, root(), "old", root(), "new");
  const Lsn second = write(20);
  rename(11, id(10), "sub", root(), "top");
  const Lsn third = write(20);
  EXPECT_EQ(text(first), "old/sub/file");
  EXPECT_EQ(text(second), "new/sub/file");
  EXPECT_EQ(text(third), "top/file");
  EXPECT_EQ(text(first), "old/sub/file");
}

TEST_F(PathsTest, OlderThanTheJournalIsToldByWhatCameLater) {
  const Lsn early = write(20);
  rename(20, root(), "was", root(), "is");
  const Lsn unlinked_later = write(21);
  name(journal::RecordType::kUnlink, 21, root(), "gone-soon");
  EXPECT_EQ(text(early), "was");
  EXPECT_EQ(text(unlinked_later), "gone-soon");
  EXPECT_FALSE(path(early).gone);
}

TEST_F(PathsTest, WhatNobodyKnowsIsAPlaceholder) {
  const Lsn unknown = write(20);
  const Lsn below = create(21, id(12), "file");
  EXPECT_EQ(text(unknown), "#20");
  EXPECT_FALSE(path(unknown).known);
  EXPECT_EQ(text(below), "#12/file");
}

TEST_F(PathsTest, AKnownNameThatLooksLikeAPlaceholderIsTold) {
  EXPECT_EQ(text(create(20, root(), "#20")), "./#20");
}

TEST_F(PathsTest, WithoutANameItIsTheLastOneAndGone) {
  create(20, root(), "file");
  name(journal::RecordType::kUnlink, 20, root(), "file");
  const Lsn orphan = write(20);
  journal::Record r;
  r.type = journal::RecordType::kTemporary;
  r.file = id(30);
  const Lsn nameless = append(r);
  EXPECT_EQ(text(orphan), "file");
  EXPECT_TRUE(path(orphan).gone);
  EXPECT_EQ(text(nameless), "#30");
  EXPECT_TRUE(path(nameless).gone);
}

TEST_F(PathsTest, HardLinksKeepANameUntilTheLastIsGone) {
  create(20, root(), "one");
  name(journal::RecordType::kLink, 20, root(), "two");
  name(journal::RecordType::kUnlink, 20, root(), "two");
  const Lsn left = write(20);
  EXPECT_EQ(text(left), "one");
  EXPECT_FALSE(path(left).gone);
}

TEST_F(PathsTest, ARenameOverAFileTakesItsName) {
  create(20, root(), "target");
  create(21, root(), "source");
  rename(21, root(), "source", root(), "target", id(20));
  EXPECT_EQ(text(write(21)), "target");
  EXPECT_TRUE(path(write(20)).gone);
}

TEST_F(PathsTest, AnExchangeMovesBoth) {
  create(20, root(), "x");
  create(21, root(), "y");
  rename(20, root(), "x", root(), "y", id(21), RENAME_EXCHANGE);
  EXPECT_EQ(text(write(20)), "y");
  EXPECT_EQ(text(write(21)), "x");
}

TEST_F(PathsTest, RenameOfTwoNamesOfOneFileChangesNothing) {
  create(20, root(), "one");
  name(journal::RecordType::kLink, 20, root(), "two");
  rename(20, root(), "one", root(), "two", id(20));
  name(journal::RecordType::kUnlink, 20, root(), "two");
  EXPECT_EQ(text(write(20)), "one");
}

TEST_F(PathsTest, AReusedIdentityIsAnotherFile) {
  create(20, root(), "first");
  name(journal::RecordType::kUnlink, 20, root(), "first");
  create(20, root(), "second");
  EXPECT_EQ(text(write(20)), "second");
}

TEST_F(PathsTest, DirectoriesThatHoldEachOtherEndInAPlaceholder) {
  mkdir(10, id(11), "a");
  mkdir(11, id(10), "b");
  EXPECT_FALSE(path(create(20, id(10), "file")).known);
}

TEST_F(PathsTest, NewNamesAreTakenInAsTheLogGrows) {
  create(20, root(), "old");
  const Lsn before = write(20);
  EXPECT_EQ(text(before), "old");
  rename(20, root(), "old", root(), "new");
  const Lsn after = write(20);
  EXPECT_FALSE(paths_->covers(after));
  paths_->catch_up(Lsn{0});
  EXPECT_TRUE(paths_->covers(after));
  EXPECT_EQ(text(after), "new");
  EXPECT_EQ(text(before), "old");
}

// Names, renames and writes at random, against a model that replays them in order.
TEST_F(PathsTest, AgreesWithAReplay) {
  Random random;
  constexpr uint64_t kFiles = 40, kDirectories = 8;
  struct Place {
    uint64_t directory;
    std::string name;
  };
  std::map<uint64_t, Place> where;  // file or directory -> where it is
  auto path_of = [&](uint64_t inode) {
    std::string out = where[inode].name;
    for (uint64_t d = where[inode].directory; d; d = where[d].directory) {
      out = where[d].name + "/" + out;
    }
    return out;
  };
  auto directory_id = [&](uint64_t d) { return d ? id(d) : root(); };
  for (uint64_t d = 1; d <= kDirectories; ++d) {
    where[d] = {d / 2 == d ? 0 : d / 2, "d" + std::to_string(d)};
    mkdir(d, directory_id(where[d].directory), where[d].name);
  }
  std::vector<std::pair<Lsn, std::string>> expected;
  for (int step = 0; step < 4000; ++step) {
    const uint64_t file = 100 + random.below(kFiles);
    if (!where.count(file)) {
      where[file] = {random.below(kDirectories + 1), "f" + std::to_string(step)};
      create(file, directory_id(where[file].directory), where[file].name);
    } else if (random.one_in(4)) {
      const Place to{random.below(kDirectories + 1), "r" + std::to_string(step)};
      rename(file, directory_id(where[file].directory), where[file].name,
             directory_id(to.directory), to.name);
      where[file] = to;
    } else if (random.one_in(20)) {  // a leaf, so that nothing comes to hold itself
      const uint64_t d = 5 + random.below(4);
      const std::string name = "m" + std::to_string(step);
      rename(d, directory_id(where[d].directory), where[d].name, root(), name);
      where[d] = {0, name};
    }
    expected.emplace_back(write(file), path_of(file));
  }
  std::shuffle(expected.begin(), expected.end(), std::mt19937_64(random.u64()));
  for (const auto& [lsn, wanted] : expected) ASSERT_EQ(text(lsn), wanted) << value(lsn);
}

TEST_F(PathsTest, GlobsAreRememberedOnlyForAsLongAsTheyHold) {
  mkdir(10, root(), "logs");
  create(20, id(10), "file");
  write(20);
  rename(10, root(), "logs", root(), "other");
  const Lsn second = write(20);
  journal::LogView view = must(journal::LogView::open(volume_));
  journal::PathGlobs globs;
  globs.add("logs");
  journal::PathResolver paths(view, {.globs = globs});
  std::vector<bool> verdicts;
  std::vector<journal::Damage> damage;
  journal::LogQuery(view, {}, view.end())
      .forward(
          [&](const journal::RecordView& r) {
            if (r.head.type == journal::RecordType::kWrite) {
              auto quick = paths.matched(r.head);
              verdicts.push_back(quick ? *quick : paths.path_of(r.decode().record).matched);
            }
            return true;
          },
          damage);
  EXPECT_EQ(verdicts, (std::vector<bool>{true, false}));
  EXPECT_FALSE(paths.path_of(view.record_at(second).record).matched);
}

}  // namespace
}  // namespace epochfs::testing
