#include "replicator/target/index/index.h"

#include "journal/base/unix.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace epochfs::testing {
namespace {

constexpr FileId kDir{2, 1}, kOther{3, 1}, kFile{10, 5};

class IndexTest : public ::testing::Test {
 protected:
  std::unique_ptr<replicator::Index> open(size_t map_bytes = 16 << 20) {
    return must(replicator::Index::open(dir_.get(), map_bytes));
  }
  std::vector<std::pair<std::string, FileId>> children(replicator::Index& index, FileId parent) {
    std::vector<std::pair<std::string, FileId>> out;
    must(index.for_each_child(parent,
                              [&](const replicator::EntryName& e, FileId child) -> Result<void> {
                                EXPECT_EQ(e.parent, parent);
                                out.emplace_back(e.name, child);
                                return {};
                              }));
    return out;
  }

  TemporaryDirectory folder_;
  UniqueFd dir_ = must(open_directory(folder_.path()));
};

TEST_F(IndexTest, NamesAndLinksSayTheSame) {
  auto index = open();
  must(index->put_name({kDir, "a"}, kFile));
  must(index->put_name({kOther, "b"}, kFile));
  must(index->put_name({kDir, std::string(255, 'x')}, kOther));
  EXPECT_EQ(must(index->child({kDir, "a"})), kFile);
  EXPECT_EQ(must(index->links(kFile)).size(), 2u);
  must(index->put_name({kDir, "a"}, kOther));  // now leads elsewhere
  EXPECT_EQ(must(index->links(kFile)), (std::vector<replicator::EntryName>{{kOther, "b"}}));
  EXPECT_EQ(must(index->links(kOther)).size(), 2u);
  must(index->put_name({kOther, "b"}, {}));
  EXPECT_FALSE(must(index->has_links(kFile)));
  EXPECT_FALSE(bool(must(index->child({kOther, "b"}))));
}

TEST_F(IndexTest, ChildrenAreThoseOfOneDirectoryInOrder) {
  auto index = open();
  for (uint64_t i = 0; i < 600; ++i) {  // more than a batch of a scan
    must(index->put_name({kDir, std::string(200, char('a' + i % 26)) + std::to_string(i)},
                         {100 + i, 1}));
    must(index->put_name({{1, UINT64_MAX}, std::to_string(i)}, kFile));
    must(index->put_name({kOther, std::to_string(i)}, kFile));
  }
  auto all = children(*index, kDir);
  EXPECT_EQ(all.size(), 600u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
}

TEST_F(IndexTest, AScanSurvivesWhatItsFunctionChanges) {
  auto index = open();
  for (uint64_t i = 0; i < 3000; ++i) {
    must(index->put_staged_name({kDir, std::to_string(i) + std::string(100, 'n')}, {100 + i, 1}));
  }
  size_t calls = 0;
  must(index->for_each_staged_name([&](const replicator::EntryName& e, FileId) -> Result<void> {
    ++calls;
    return index->remove_staged_name(e);
  }));
  EXPECT_EQ(calls, 3000u);
  EXPECT_EQ(must(index->count_staged_names()), 0u);
  EXPECT_TRUE(must(index->staged_links({100, 1})).empty());
}

TEST_F(IndexTest, WhatWasNotCommittedIsGone) {
  {
    auto index = open();
    must(index->put_name({kDir, "kept"}, kFile));
    replicator::IndexMeta meta;
    meta.cursor = 7;
    must(index->put_meta(meta));
    must(index->commit());
    must(index->put_name({kDir, "lost"}, kFile));
    meta.cursor = 8;
    must(index->put_meta(meta));
  }
  auto index = open();
  EXPECT_EQ(index->meta().cursor, 7u);
  EXPECT_EQ(children(*index, kDir).size(), 1u);
}

TEST_F(IndexTest, StagedNodesComeBackAsTheyWere) {
  replicator::StagedNode node;
  node.attributes = {.mode = 0100644,
                     .uid = 1,
                     .gid = 2,
                     .links = 3,
                     .rdev = 4,
                     .size = 5,
                     .atime = {-1, 2},
                     .mtime = {3, 4},
                     .ctime = {5, 6}};
  node.version = 77;
  node.received = 3;
  node.content = replicator::Content::kWhole;
  node.fresh = node.incoming = node.finished = true;
  node.xattrs = {{"user.a", std::string(60'000, 'v')}, {"user.b", std::string("\0x", 2)}};
  node.symlink_target = "there";
  auto index = open();
  must(index->put_staged(kFile, node));
  replicator::StagedNode back = *must(index->staged(kFile));
  EXPECT_EQ(back.attributes, node.attributes);
  EXPECT_EQ(back.xattrs, node.xattrs);
  EXPECT_EQ(back.symlink_target, "there");
  EXPECT_EQ(back.version, 77u);
  EXPECT_EQ(back.resume_at(), 3u);
  EXPECT_TRUE(back.fresh && back.incoming && back.finished && !back.forgotten);
  EXPECT_EQ(must(index->staged_head(kFile))->attributes.size, 5u);
}

TEST_F(IndexTest, RangesComeInOrderOfTheirOffsets) {
  auto index = open();
  must(index->put_range(kFile, uint64_t(1) << 40,
                        {.kind = replicator::RangeKind::kHole, .length = 9}));
  must(index->put_range(kFile, 70'000, {.kind = replicator::RangeKind::kFile, .length = 4}));
  must(index->put_range(kFile, 255,
                        {.kind = replicator::RangeKind::kInline, .length = 3, .bytes = "abc"}));
  must(index->put_range(kOther, 1, {.kind = replicator::RangeKind::kHole, .length = 1}));
  std::vector<uint64_t> offsets;
  must(index->for_each_range(
      kFile, [&](uint64_t offset, const replicator::StagedRange& r) -> Result<void> {
        offsets.push_back(offset);
        if (r.kind == replicator::RangeKind::kInline) {
          EXPECT_EQ(r.bytes, "abc");
        }
        return {};
      }));
  EXPECT_EQ(offsets, (std::vector<uint64_t>{255, 70'000, uint64_t(1) << 40}));
  must(index->remove_ranges(kFile));
  size_t left = 0;
  must(index->for_each_range(
      kOther, [&](uint64_t, const replicator::StagedRange&) { return ++left, Result<void>{}; }));
  EXPECT_EQ(left, 1u);
}

TEST_F(IndexTest, TheMapGrowsWithWhatIsInIt) {
  auto index = open(1 << 20);
  for (uint64_t i = 0; i < 40'000; ++i) {
    must(index->make_room(4));
    must(index->put_name({{1 + i % 50, 1}, std::string(100, 'n') + std::to_string(i)},
                         {100 + i, 1}));
  }
  must(index->commit());
  EXPECT_EQ(must(index->count_names()), 40'000u);
  index.reset();
  index = open(1 << 20);  // a map that is too small at first
  EXPECT_EQ(must(index->count_names()), 40'000u);
  must(index->make_room(100'000));
  must(index->clear_tree());
  must(index->commit());
  EXPECT_EQ(must(index->count_names()), 0u);
}

TEST_F(IndexTest, ANewerFormatIsRefused) {
  {
    auto index = open();
    replicator::IndexMeta meta;
    meta.format = replicator::kIndexFormat + 1;
    must(index->put_meta(meta));
    must(index->commit());
  }
  auto index = replicator::Index::open(dir_.get(), 16 << 20);
  ASSERT_FALSE(index.has_value());
  EXPECT_NE(index.error().message().find("newer"), std::string::npos);
}

TEST_F(IndexTest, DamageIsAnErrorAndNoCrash) {
  {
    auto index = open();
    must(index->put_name({kDir, "a"}, kFile));
    must(index->commit());
  }
  write_file(folder_ / "data.mdb", std::string(40'000, 'x'));
  auto index = replicator::Index::open(dir_.get(), 16 << 20);
  ASSERT_FALSE(index.has_value());
  EXPECT_EQ(index.error().status, ExitStatus::kCorrupt);
}

}  // namespace
}  // namespace epochfs::testing
