#include "replicator/target/receive/stage.h"

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/replicator/target/target_support.h"

namespace epochfs::testing {
namespace {

constexpr FileId kRoot{2, 1}, kA{10, 1}, kB{11, 1};

// A stage with an index of its own, and nothing on the target but what a test
// says there is.
class StageTest : public ::testing::Test {
 protected:
  StageTest() {
    std::filesystem::create_directory(folder_ / "target");
    open();
    plan_.full = true;
    plan_.walk_since = 5;
    plan_.root = kRoot;
    EXPECT_OK(stage_->begin(plan_));
  }

  // As after a restart: what was not committed is gone.
  void open() {
    stage_.reset();
    index_.reset();
    folders_ = replicator::Folders();
    folders_ = must(
        folders(replicator::Folders::open(storage_, folder_ / "target", kRelationship, false)));
    index_ = must(replicator::Index::open(folders_.index.get(), size_t(1) << 30));
    stage_ = std::make_unique<replicator::Stage>(
        storage_, *index_, folders_,
        [this](FileId id, const replicator::IndexedNode&) -> Result<bool> {
          return intact_.count(id) != 0;
        });
    must(stage_->sweep());
  }
  static Result<replicator::Folders> folders(replicator::Outcome<replicator::Folders> f) {
    return f ? Result<replicator::Folders>(std::move(*f)) : tl::unexpected(f.error().error);
  }

  static NodeSpec node(FileId id, std::string data, replicator::Content content,
                       uint64_t version = 0) {
    NodeSpec n{.id = id, .content = content, .version = version};
    n.file.attributes.mode = 0100640;
    n.file.attributes.size = data.size();
    n.file.attributes.mtime = {1'600'000'000, 123};
    n.file.data = std::move(data);
    return n;
  }
  static BlockSpec block(const NodeSpec& n, uint64_t offset, uint64_t size) {
    return {.id = n.id, .offset = offset, .bytes = n.file.data.substr(offset, size)};
  }
  static std::string bytes(size_t size, char first = 'a') {
    std::string out(size, first);
    for (size_t i = 0; i < size; i += 100) out[i] = char('a' + i / 100 % 26);
    return out;
  }
  // resumeAt of a single node; 0: no Need.
  uint64_t announce(const NodeSpec& n) {
    auto needs = must(send_nodes(*stage_, {n}));
    return needs.empty() ? 0 : needs[0].resume_at;
  }
  Result<void> send(const BlockSpec& b) { return send_blocks(*stage_, {b}); }
  std::string incoming(FileId id) {
    return read_whole_file(stage_path() + "/incoming/" + replicator::stage_name(id));
  }
  std::string stage_path() const { return folder_ / ".epochfs-" + kRelationship; }
  size_t entries(const std::string& folder) {
    size_t n = 0;
    for ([[maybe_unused]] const auto& e :
         std::filesystem::directory_iterator(stage_path() + folder))
      ++n;
    return n;
  }
  void put_in_index(const NodeSpec& n) {
    const replicator::FixedAttributes& a = n.file.attributes;
    must(index_->put_node(n.id, {.mode = a.mode,
                                 .size = a.size,
                                 .version = n.version,
                                 .mtime = a.mtime,
                                 .ctime = a.ctime}));
    intact_.insert(n.id);
  }

  TemporaryDirectory folder_;
  LazyStorage storage_;
  replicator::Folders folders_;
  std::unique_ptr<replicator::Index> index_;
  std::unique_ptr<replicator::Stage> stage_;
  std::set<FileId> intact_;
  replicator::TransferPlan plan_;
};

// ---- resuming ----

TEST_F(StageTest, AWholeFileIsWrittenOnceAndFinishedWithItsLastBlock) {
  auto n = node(kA, bytes(10'000), replicator::Content::kWhole, 9);
  EXPECT_EQ(announce(n), 0u);
  ASSERT_OK(send(block(n, 0, 4096)));
  EXPECT_EQ(announce(n), 4096u);
  ASSERT_OK(send(block(n, 4096, 5904)));
  EXPECT_EQ(announce(n), rpc::NOTHING_NEEDED);
  EXPECT_EQ(incoming(kA), n.file.data);
  struct stat s;
  ASSERT_EQ(::stat((stage_path() + "/incoming/" + replicator::stage_name(kA)).c_str(), &s), 0);
  EXPECT_EQ(s.st_mode, 0100640u);
  EXPECT_EQ(s.st_mtim.tv_nsec, 123);
}

TEST_F(StageTest, AfterARestartTheStageGoesOnFromTheCheckpointExactly) {
  auto n = node(kA, bytes(50'000), replicator::Content::kWhole, 9);
  announce(n);
  ASSERT_OK(send(block(n, 0, 10'000)));
  ASSERT_OK(stage_->checkpoint());
  ASSERT_OK(send(block(n, 10'000, 10'000)));  // is not accounted for
  EXPECT_EQ(incoming(kA).size(), 20'000u);
  open();
  ASSERT_OK(stage_->begin(plan_));
  EXPECT_EQ(announce(n), 10'000u);
  EXPECT_EQ(incoming(kA).size(), 10'000u);
  ASSERT_OK(send(block(n, 5'000, 15'000)));  // partly here already
  ASSERT_OK(send(block(n, 20'000, 30'000)));
  EXPECT_EQ(incoming(kA), n.file.data);
}

TEST_F(StageTest, WhatWasNeverAccountedForIsSweptAway) {
  auto n = node(kA, bytes(1000), replicator::Content::kWhole);
  ASSERT_OK(stage_->checkpoint());
  announce(n);
  ASSERT_OK(send(block(n, 0, 1000)));
  EXPECT_EQ(entries("/incoming"), 1u);
  write_file(stage_path() + "/incoming/odd", "x");
  write_file(stage_path() + "/extents/1-2", "x");
  open();
  EXPECT_EQ(entries("/incoming"), 0u);
  EXPECT_EQ(entries("/extents"), 0u);
}

TEST_F(StageTest, AnotherVersionStartsOver) {
  auto n = node(kA, bytes(5000), replicator::Content::kWhole, 9);
  announce(n);
  ASSERT_OK(send(block(n, 0, 5000)));
  auto newer = node(kA, bytes(4000, 'z'), replicator::Content::kWhole, 10);
  EXPECT_EQ(announce(newer), 0u);
  ASSERT_OK(send(block(newer, 0, 4000)));
  EXPECT_EQ(incoming(kA), newer.file.data);
}

TEST_F(StageTest, WithoutAVersionSizeAndTimesDecide) {
  auto n = node(kA, bytes(5000), replicator::Content::kWhole);
  announce(n);
  ASSERT_OK(send(block(n, 0, 5000)));
  n.file.attributes.mode = 0100600;  // says nothing about the bytes
  EXPECT_EQ(announce(n), rpc::NOTHING_NEEDED);
  n.file.attributes.ctime.nanos = 1;
  EXPECT_EQ(announce(n), 0u);
}

TEST_F(StageTest, AnUnstampedStageOfAnotherWalkIsThrownAway) {
  auto n = node(kA, bytes(5000), replicator::Content::kWhole, 9);
  announce(n);
  ASSERT_OK(send(block(n, 0, 5000)));
  ASSERT_OK(stage_->checkpoint());
  plan_.walk_since = 6;
  ASSERT_OK(stage_->begin(plan_));
  EXPECT_EQ(entries("/incoming"), 0u);
  EXPECT_EQ(announce(n), 0u);
}

TEST_F(StageTest, NamesOfAnEarlierAttemptDoNotStay) {
  ASSERT_OK(send_names(*stage_, {{{kRoot, "seen once"}, kA}}));
  ASSERT_OK(send_listed(*stage_, {kRoot}));
  ASSERT_OK(stage_->begin(plan_));
  EXPECT_EQ(must(index_->count_staged_names()), 0u);
  EXPECT_FALSE(must(index_->listed(kRoot)));
}

TEST_F(StageTest, AFullTransferNeedsNothingOfWhatIsThereAndIntact) {
  auto n = node(kA, bytes(5000), replicator::Content::kWhole);
  put_in_index(n);
  EXPECT_EQ(announce(n), rpc::NOTHING_NEEDED);
  ASSERT_OK(send(block(n, 0, 5000)));  // was under way already: ignored
  EXPECT_EQ(entries("/incoming"), 0u);
  n.fresh = true;  // whatever it is that is there
  EXPECT_EQ(announce(n), 0u);
  n.fresh = false;
  auto touched = n;
  touched.id = kB;
  put_in_index(touched);
  touched.file.attributes.mtime.nanos = 5;
  EXPECT_EQ(announce(touched), 0u);
  intact_.erase(kB);
  touched.file.attributes.mtime.nanos = 123;
  EXPECT_EQ(announce(touched), 0u);
}

TEST_F(StageTest, OfTwoKnownVersionsOnlyEqualOnesAreEqual) {
  auto n = node(kA, bytes(5000), replicator::Content::kWhole, 7);
  put_in_index(n);
  n.file.attributes.ctime.seconds = 1;
  EXPECT_EQ(announce(n), rpc::NOTHING_NEEDED);
  n.version = 8;
  n.file.attributes.ctime.seconds = 0;
  EXPECT_EQ(announce(n), 0u);
}

// ---- patches and ranges ----

TEST_F(StageTest, RangesOfAFileThatIsStagedWholeGoIntoIt) {
  auto n = node(kA, bytes(20'000), replicator::Content::kWhole);
  announce(n);
  ASSERT_OK(send(block(n, 0, 20'000)));
  auto patch = node(kA, bytes(15'000), replicator::Content::kRanges, 30);
  patch.file.data.replace(500, 100, std::string(100, '!'));
  patch.file.data.replace(8000, 4000, std::string(4000, '\0'));
  announce(patch);
  ASSERT_OK(send(block(patch, 500, 100)));
  ASSERT_OK(send({.id = kA, .offset = 8000, .bytes = std::string(4000, '\0'), .hole = true}));
  ASSERT_OK(stage_->finish());
  EXPECT_EQ(incoming(kA), patch.file.data);
  // All has come, as the source said by committing.
  patch.content = replicator::Content::kWhole;
  EXPECT_EQ(announce(patch), rpc::NOTHING_NEEDED);
}

TEST_F(StageTest, AnInterruptedPatchIsTrustedUpToItsLastBlock) {
  auto n = node(kA, bytes(20'000), replicator::Content::kWhole);
  announce(n);
  ASSERT_OK(send(block(n, 0, 20'000)));
  auto patch = node(kA, bytes(20'000, 'q'), replicator::Content::kRanges, 30);
  announce(patch);
  ASSERT_OK(send(block(patch, 500, 100)));
  ASSERT_OK(stage_->checkpoint());
  open();
  ASSERT_OK(stage_->begin(plan_));
  patch.content = replicator::Content::kWhole;
  EXPECT_EQ(announce(patch), 600u);
}

TEST_F(StageTest, SmallRangesStayInTheIndexAndLargeOnesInExtents) {
  auto n = node(kA, bytes(200'000), replicator::Content::kRanges, 30);
  put_in_index(n);
  n.file.data.resize(200'000);
  announce(n);
  ASSERT_OK(send(block(n, 10, 100)));
  EXPECT_EQ(entries("/extents"), 0u);
  ASSERT_OK(send(block(n, 50'000, 100'000)));
  EXPECT_EQ(entries("/extents"), 1u);
  ASSERT_OK(send({.id = kA, .offset = 150'000, .bytes = std::string(10, '\0'), .hole = true}));
  EXPECT_EQ(announce(n), 150'010u);
  std::vector<replicator::RangeKind> kinds;
  must(index_->for_each_range(kA, [&](uint64_t, const replicator::StagedRange& r) -> Result<void> {
    kinds.push_back(r.kind);
    return {};
  }));
  EXPECT_EQ(kinds, (std::vector{replicator::RangeKind::kInline, replicator::RangeKind::kFile,
                                replicator::RangeKind::kHole}));
}

TEST_F(StageTest, RangesOfAFileThatNobodyHasEndInUnknownState) {
  auto n = node(kA, bytes(100), replicator::Content::kRanges, 30);
  announce(n);
  EXPECT_NE(stage_->unknown(), "");
  ASSERT_OK(send(block(n, 0, 100)));  // no failure of the connection
  ASSERT_OK(stage_->begin(plan_));
  EXPECT_EQ(stage_->unknown(), "");
}

TEST_F(StageTest, ForgottenFilesLeaveNothing) {
  auto n = node(kA, bytes(100), replicator::Content::kWhole, 30);
  announce(n);
  ASSERT_OK(send(block(n, 0, 100)));
  ASSERT_OK(send_forgotten(*stage_, {kA, kB}));
  EXPECT_EQ(entries("/incoming"), 0u);
  EXPECT_FALSE(send(block(n, 0, 100)).has_value());
  EXPECT_EQ(announce(n), 0u);  // it is there after all
  ASSERT_OK(send(block(n, 0, 100)));
}

TEST_F(StageTest, ManyFilesAtOnceTakeFewDescriptors) {
  auto descriptors = [] {
    size_t n = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
    return n;
  };
  const size_t before = descriptors();
  std::vector<NodeSpec> nodes;
  for (uint64_t i = 0; i < 300; ++i)
    nodes.push_back(node({100 + i, 1}, bytes(3000, char(i)), replicator::Content::kWhole, 1));
  must(send_nodes(*stage_, nodes));
  for (uint64_t at = 0; at < 3000; at += 1000) {
    for (const NodeSpec& n : nodes) ASSERT_OK(send(block(n, at, 1000)));
    EXPECT_LE(descriptors(), before + 40);
  }
  for (const NodeSpec& n : nodes) EXPECT_EQ(incoming(n.id), n.file.data);
}

TEST_F(StageTest, FilesOfAllTypesAreMadeAtOnce) {
  auto special = [](FileId id, uint32_t mode, std::string target = "", uint64_t rdev = 0) {
    NodeSpec n{.id = id};
    n.file.attributes.mode = mode;
    n.file.attributes.rdev = rdev;
    n.file.symlink_target = std::move(target);
    return n;
  };
  must(send_nodes(*stage_,
                  {special({20, 1}, 0120777, "../../etc/passwd"), special({21, 1}, 0010600),
                   special({22, 1}, 0020600, "", uint64_t(1) << 32 | 3), special({23, 1}, 0040755),
                   node({24, 1}, "", replicator::Content::kWhole)}));
  EXPECT_EQ(entries("/incoming"), 4u);  // all but the directory
  EXPECT_EQ(
      std::filesystem::read_symlink(stage_path() + "/incoming/" + replicator::stage_name({20, 1})),
      "../../etc/passwd");
  // Again, and with other attributes.
  auto again = special({20, 1}, 0120777, "elsewhere");
  must(send_nodes(*stage_, {again}));
  EXPECT_EQ(
      std::filesystem::read_symlink(stage_path() + "/incoming/" + replicator::stage_name({20, 1})),
      "elsewhere");
}

// ---- malformed calls ----

class MalformedTest : public StageTest {
 protected:
  MalformedTest() {
    n_ = node(kA, bytes(5000), replicator::Content::kWhole, 3);
    announce(n_);
    must(send(block(n_, 0, 1000)));
  }
  // The call is refused, and what came with it has done nothing.
  template <typename T, typename E>
  void refused(const tl::expected<T, E>& outcome, const char* why) {
    ASSERT_FALSE(outcome.has_value()) << why;
    EXPECT_NE(outcome.error().message().find(why), std::string::npos) << outcome.error().message();
    EXPECT_EQ(must(index_->count_staged()), 1u);
    EXPECT_EQ(must(index_->count_staged_names()), 0u);
    EXPECT_EQ(entries("/incoming"), 1u);
    EXPECT_EQ(incoming(kA), n_.file.data.substr(0, 1000));
  }
  NodeSpec n_;
};

TEST_F(MalformedTest, Nodes) {
  struct Case {
    const char* why;
    std::function<void(NodeSpec&)> spoil;
  };
  const std::vector<Case> cases = {
      {"no file identity", [](NodeSpec& n) { n.id = {}; }},
      {"no known type", [](NodeSpec& n) { n.file.attributes.mode = 0644; }},
      {"no known type", [](NodeSpec& n) { n.file.attributes.mode = 0150000; }},
      {"no known type", [](NodeSpec& n) { n.file.attributes.mode = 0100644 | 1 << 20; }},
      {"not a user", [](NodeSpec& n) { n.file.attributes.uid = UINT32_MAX; }},
      {"too large", [](NodeSpec& n) { n.file.attributes.size = uint64_t(INT64_MAX) + 1; }},
      {"ns", [](NodeSpec& n) { n.file.attributes.mtime.nanos = 1'000'000'000; }},
      {"xattr", [](NodeSpec& n) { n.file.xattrs[std::string("user.\0x", 7)] = ""; }},
      {"xattr", [](NodeSpec& n) { n.file.xattrs[""] = "x"; }},
      {"xattr", [](NodeSpec& n) { n.file.xattrs[std::string(256, 'x')] = "x"; }},
      {"too long", [](NodeSpec& n) { n.file.xattrs["user.x"] = std::string(65537, 'x'); }},
      {"symbolic link",
       [](NodeSpec& n) {
         n.file.attributes.mode = 0120777;
         n.content = replicator::Content::kNone;
       }},
      {"symbolic link",
       [](NodeSpec& n) {
         n.file.attributes.mode = 0120777;
         n.content = replicator::Content::kNone;
         n.file.symlink_target = std::string(4096, 'x');
       }},
      {"device",
       [](NodeSpec& n) {
         n.file.attributes.mode = 0060600;
         n.content = replicator::Content::kNone;
         n.file.attributes.rdev = uint64_t(4096) << 32;
       }},
      {"no regular file", [](NodeSpec& n) { n.file.attributes.mode = 0040755; }},
      {"fresh",
       [](NodeSpec& n) {
         n.content = replicator::Content::kRanges;
         n.fresh = true;
       }},
  };
  for (const Case& c : cases) {
    auto good = node(kB, bytes(10), replicator::Content::kWhole), bad = good;
    bad.id = {99, 99};
    c.spoil(bad);
    refused(send_nodes(*stage_, {good, bad}), c.why);
  }
  std::vector<NodeSpec> many(rpc::MAX_NODES_IN_BATCH + 1,
                             node(kB, "", replicator::Content::kWhole));
  refused(send_nodes(*stage_, many), "too many");
}

TEST_F(MalformedTest, Blocks) {
  const BlockSpec good = block(n_, 1000, 1000);
  auto spoiled = [&](auto spoil) {
    BlockSpec b = block(n_, 2000, 1000);
    spoil(b);
    return std::vector<BlockSpec>{good, b};
  };
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.id = kB; })), "not announced");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.id = {}; })), "no file identity");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.bytes = ""; })), "empty");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.offset = 4500; })), "it ends at");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.offset = UINT64_MAX - 10; })),
          "beyond every file");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.offset = INT64_MAX; })),
          "beyond every file");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) { b.offset = 1500; })), "which follows");
  refused(send_blocks(*stage_, spoiled([](BlockSpec& b) {
            b.offset = 0;
            b.hole = true;
          })),
          "which follows");
  refused(send_blocks(*stage_,
                      spoiled([](BlockSpec& b) { b.bytes.assign(rpc::MAX_BLOCK_BYTES + 1, 'x'); })),
          "too many");
}

TEST_F(MalformedTest, CompressedBlocks) {
  const std::vector<BlockSpec> specs{block(n_, 1000, 1000)};
  auto with = [&](auto spoil) {
    Message<rpc::Block> message(specs, [&](rpc::Block::Builder out, const BlockSpec& spec) {
      BlockSpec packed = spec;
      packed.compressed = true;
      write_block(out, packed);
      spoil(out);
    });
    auto parsed = replicator::parse_blocks(message.reader());
    return parsed ? stage_->blocks(parsed->blocks) : Result<void>(tl::unexpected(parsed.error()));
  };
  refused(with([](rpc::Block::Builder b) { b.setLength(999); }), "LZ4");
  refused(with([](rpc::Block::Builder b) { b.setLength(1001); }), "LZ4");
  refused(with([](rpc::Block::Builder b) { b.getPayload().setLz4(data_of("")); }), "LZ4");
  refused(
      with([](rpc::Block::Builder b) { b.getPayload().setLz4(data_of("\xff\xff\xff\xff\xff")); }),
      "LZ4");
  refused(with([](rpc::Block::Builder b) { b.getPayload().setRaw(data_of("short")); }),
          "as many as it says");
  Random random;
  for (int i = 0; i < 2000; ++i) {  // whatever comes: no more than a refusal
    std::string junk(random.below(300), '\0');
    for (char& c : junk) c = char(random.u64());
    auto done = with([&](rpc::Block::Builder b) { b.getPayload().setLz4(data_of(junk)); });
    if (!done) refused(done, "LZ4");
  }
  EXPECT_OK(with([](rpc::Block::Builder) {}));
}

TEST_F(MalformedTest, ACallThatWouldDecodeToTooMuch) {
  auto large = node(kB, std::string(1 << 20, 'x'), replicator::Content::kWhole);
  large.file.attributes.size = uint64_t(1) << 40;
  std::vector<BlockSpec> blocks;
  for (uint64_t i = 0; i < 65; ++i) {
    blocks.push_back({.id = kB, .offset = i << 20, .bytes = large.file.data, .compressed = true});
  }
  refused(send_blocks(*stage_, blocks), "too many");
}

TEST_F(MalformedTest, Names) {
  for (std::string name : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                           std::string("/"), std::string("a\0b", 3), std::string(256, 'x')}) {
    refused(send_names(*stage_, {{{kRoot, "good"}, kA}, {{kRoot, name}, kA}}), "not a file name");
  }
  refused(send_names(*stage_, {{{kRoot, "good"}, kA}, {{FileId{}, "x"}, kA}}), "no file identity");
  plan_.full = false;
  ASSERT_OK(stage_->begin(plan_));
  EXPECT_FALSE(send_listed(*stage_, {kRoot}).has_value());
}

}  // namespace
}  // namespace epochfs::testing
