// Checkpoint: does one file give back the fold that was put into it, and is anything
// else that it may hold refused by name?
#include "journal/changes/checkpoint.h"

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/journal/changes/checkpoint_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

class CheckpointTest : public ::testing::Test {
 protected:
  static NameChange random_name(Random& random) {
    return {random.one_in(2), {random.below(9), random.below(9)}, {random.below(9), 1}};
  }

  CheckpointInfo info() const {
    return {.lineage = lineage_,
            .first = EpochId{3},
            .last = EpochId{7},
            .seal = Lsn{4711},
            .records = 99};
  }
  // Writes files_ and names_ and opens what was written.
  CheckpointPtr written() {
    auto writer = must(CheckpointWriter::create(storage_, fd_.get(), info()));
    for (const auto& [id, change] : files_) writer->add(id, change);
    for (const auto& [key, change] : names_) writer->add(key, change);
    must(writer->finish());
    return must(Checkpoint::open(fd_.get(), name_, lineage_));
  }
  void fill(Random& random, size_t files, size_t names) {
    for (size_t i = 0; i < files; ++i) {
      files_[{random.below(3 * files + 1), random.below(3)}] = random_change(random);
    }
    for (size_t i = 0; i < names; ++i) {
      std::string name(1 + random.below(kMaxNameBytes), 'x');
      name[0] = char('a' + random.below(20));
      names_[{{random.below(5), 1}, name}] = random_name(random);
    }
  }
  std::string path() const { return dir_.path() + "/" + name_; }

  TemporaryDirectory dir_;
  Storage storage_;
  UniqueFd fd_ = must(open_directory(dir_.path()));
  Uuid lineage_ = Uuid::random();
  std::string name_ = checkpoint_name(EpochId{3}, EpochId{7});
  std::map<FileId, FileChange> files_;
  std::map<NameKey, NameChange> names_;
};

TEST_F(CheckpointTest, EmptyOneIsRead) {
  auto c = written();
  EXPECT_EQ(c->info(), info());
  FileId id;
  FileChange file;
  EXPECT_FALSE(Checkpoint::Files(*c).next(id, file));
  EXPECT_FALSE(c->find({1, 1}));
}

TEST_F(CheckpointTest, GivesBackWhatWasPutIn) {
  Random random;
  for (int round = 0; round < 40; ++round) {
    files_.clear();
    names_.clear();
    fill(random, random.below(200), random.below(100));
    auto c = written();
    EXPECT_EQ(c->info().files, files_.size());
    EXPECT_EQ(c->info().names, names_.size());
    const CheckpointContent content = content_of(*c);
    ASSERT_EQ(content.files, files_);
    ASSERT_EQ(content.names, names_);
    for (uint64_t inode = 0; inode < 3 * files_.size() + 2; ++inode) {
      for (uint64_t birth = 0; birth < 4; ++birth) {
        auto expected = files_.find({inode, birth});
        auto found = c->find({inode, birth});
        ASSERT_EQ(found.has_value(), expected != files_.end());
        if (found) {
          ASSERT_EQ(*found, expected->second);
        }
      }
    }
  }
}

TEST_F(CheckpointTest, SayingThatRecordsWereMissingIsKept) {
  CheckpointInfo gap = info();
  gap.gap = true;
  gap.gap_lsn = Lsn{4000};
  must(must(CheckpointWriter::create(storage_, fd_.get(), gap))->finish());
  EXPECT_EQ(must(Checkpoint::open(fd_.get(), name_, lineage_))->info(), gap);
}

TEST_F(CheckpointTest, TooManyRangesOfAFileAreMadeCoarser) {
  FileChange& change = files_[{1, 1}];
  for (uint64_t i = 0; i < 3 * kMaxRangesOfFile; ++i) change.data.add({i * 10'000, i * 10'000 + 1});
  auto found = written()->find({1, 1});
  ASSERT_TRUE(found);
  EXPECT_LE(found->data.count(), kMaxRangesOfFile);
  EXPECT_EQ(found->data.within(change.data), change.data) << "nothing is left out";
}

TEST_F(CheckpointTest, UnfinishedOneLeavesNothingBehind) {
  must(CheckpointWriter::create(storage_, fd_.get(), info())).reset();
  EXPECT_FALSE(Checkpoint::open(fd_.get(), name_, lineage_));
  EXPECT_NE(::access((path() + ".new").c_str(), F_OK), 0);
}

TEST_F(CheckpointTest, FlippedBitIsRefusedByName) {
  Random random;
  fill(random, 50, 20);
  written();
  const std::string good = read_whole_file(path());
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = char(bad[at] ^ (1 << random.below(8)));
    auto outcome = Checkpoint::parse(std::as_bytes(std::span(bad)), name_);
    ASSERT_FALSE(outcome) << "byte " << at;
    ASSERT_NE(outcome.error().what.find(name_), std::string::npos);
  }
}

TEST_F(CheckpointTest, CutAtAnyByteIsRefused) {
  Random random;
  fill(random, 20, 10);
  written();
  const std::string good = read_whole_file(path());
  for (size_t size = 0; size < good.size(); ++size) {
    ASSERT_FALSE(Checkpoint::parse(std::as_bytes(std::span(good.data(), size)), name_));
  }
}

TEST_F(CheckpointTest, AnotherVolumesOrARenamedOneIsRefused) {
  written();
  auto foreign = Checkpoint::open(fd_.get(), name_, Uuid::random());
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().status, ExitStatus::kCorrupt);
  const std::string other = checkpoint_name(EpochId{3}, EpochId{8});
  ASSERT_EQ(::rename(path().c_str(), (dir_.path() + "/" + other).c_str()), 0);
  EXPECT_FALSE(Checkpoint::open(fd_.get(), other, lineage_));
}

TEST_F(CheckpointTest, NewerVersionIsRefusedWithTheRemedy) {
  written();
  poke(path(), 8, std::string("\x02\0\0\0", 4));
  auto outcome = Checkpoint::open(fd_.get(), name_, lineage_);
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().what.find("use a newer epochfs"), std::string::npos);
  EXPECT_NE(outcome.error().status, ExitStatus::kCorrupt);
}

TEST_F(CheckpointTest, VersionZeroIsDamage) {
  written();
  poke(path(), 8, std::string(4, '\0'));
  auto outcome = Checkpoint::open(fd_.get(), name_, lineage_);
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().what.find("no format version"), std::string::npos);
  EXPECT_EQ(outcome.error().status, ExitStatus::kCorrupt);
}

TEST(CheckpointName, IsParsedStrictly) {
  EpochId first, last;
  EXPECT_TRUE(parse_checkpoint_name(checkpoint_name(EpochId{1}, EpochId{UINT64_MAX}), first, last));
  EXPECT_EQ(last, EpochId{UINT64_MAX});
  for (const char* bad :
       {"", "x", "0000000000000001-0000000000000002.new", "0000000000000002-0000000000000001",
        "1-2", "0000000000000000-0000000000000002", "000000000000000A-000000000000000B"}) {
    EXPECT_FALSE(parse_checkpoint_name(bad, first, last)) << bad;
  }
}

}  // namespace
}  // namespace epochfs::journal
