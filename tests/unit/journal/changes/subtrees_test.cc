// Subtrees: are those marked that hold most of what changed, and does what is left of the
// checkpoints, with a look at what lies below the marks, still tell everything?
#include "journal/changes/subtrees.h"

#include <cstring>

#include "tests/support/expect.h"
#include "tests/support/random.h"
#include "tests/unit/journal/changes/checkpoints_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

FileHandle handle_of(const FileId& id) {
  FileHandle handle{.type = 1, .size = 16};
  std::memcpy(handle.bytes.data(), &id.inode, 8);
  std::memcpy(handle.bytes.data() + 8, &id.birth_ns, 8);
  return handle;
}
FileId id_in(const FileHandle& handle) {
  FileId id;
  std::memcpy(&id.inode, handle.bytes.data(), 8);
  std::memcpy(&id.birth_ns, handle.bytes.data() + 8, 8);
  return id;
}

class SubtreesTest : public CheckpointsTest {
 protected:
  void record(Record r) {
    r.handle = r.file ? handle_of(r.file) : FileHandle{};
    r.parent_handle = r.parent ? handle_of(r.parent) : FileHandle{};
    r.parent2_handle = r.parent2 ? handle_of(r.parent2) : FileHandle{};
    append(r);
  }
  void create(uint64_t parent, uint64_t inode, const std::string& name,
              RecordType type = RecordType::kCreate) {
    Record r = create_of(inode, name);
    r.type = type;
    r.parent = {parent, 1};
    if (type == RecordType::kMakeDirectory) parents_[inode] = parent;
    record(r);
  }
  void make_directory(uint64_t parent, uint64_t inode) {
    create(parent, inode, fmt::format("directory-{}", inode), RecordType::kMakeDirectory);
  }
  void fill(uint64_t directory, uint64_t files) {
    for (uint64_t i = 0; i < files; ++i, ++next_file_) {
      create(directory, next_file_, fmt::format("file-{}", next_file_));
    }
  }
  Subtrees choose() {
    return Subtrees::choose(checkpoints().all(), kRoot,
                            [&](const FileHandle& of) -> std::optional<Subtree> {
                              auto parent = parents_.find(id_in(of).inode);
                              if (parent == parents_.end()) return std::nullopt;
                              const FileId id{parent->second, 1};
                              return Subtree{id, handle_of(id)};
                            });
  }
  static std::set<uint64_t> marks(const Subtrees& subtrees) {
    std::set<uint64_t> out;
    for (const Subtree& s : subtrees.marked()) out.insert(s.directory.inode);
    return out;
  }

  std::map<uint64_t, uint64_t> parents_;
  uint64_t next_file_ = 10'000;
};

TEST_F(SubtreesTest, DeepestThatHoldMostAreMarked) {
  open();
  make_directory(2, 10);
  make_directory(10, 11);
  make_directory(11, 12);
  make_directory(2, 20);
  fill(12, 500);
  fill(10, 5);
  fill(20, 5);
  fill(2, 5);
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  const Subtrees subtrees = choose();
  EXPECT_EQ(marks(subtrees), std::set<uint64_t>{12});
  EXPECT_TRUE(subtrees.over({12, 1}));
  EXPECT_FALSE(subtrees.over({11, 1}));
  EXPECT_FALSE(subtrees.over(kRoot));
}

TEST_F(SubtreesTest, OneThatHoldsManySmallOnesIsMarked) {
  open();
  make_directory(2, 10);
  for (uint64_t d = 0; d < 50; ++d) {
    make_directory(10, 100 + d);
    fill(100 + d, 10);
  }
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  const Subtrees subtrees = choose();
  EXPECT_EQ(marks(subtrees), std::set<uint64_t>{10});
  EXPECT_TRUE(subtrees.over({120, 1}));
}

TEST_F(SubtreesTest, ChangesAllOverTheRootOrWhereNobodyKnowsMarkNothing) {
  open();
  fill(2, 100);
  fill(77, 100);  // gone: it leads nowhere
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  EXPECT_TRUE(choose().marked().empty());
}

TEST_F(SubtreesTest, MarkStandsForWhatIsBelowItAndForNothingElse) {
  open();
  make_directory(2, 10);
  fill(10, 200);
  create(10, 500, "in both");
  Record link = create_of(500, "in both, too");
  link.type = RecordType::kLink;
  record(link);
  create(2, 501, "elsewhere");
  record(write_of(501, 5, 9));
  const SealedEpoch sealed = seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  const uint64_t before = checkpoints().bytes();
  must(checkpoints().mark(choose(), {}));
  EXPECT_LT(checkpoints().bytes(), before / 10);
  ChangeSet set = fold(0, 1);
  EXPECT_TRUE(set.subtrees);
  EXPECT_TRUE(set.files.at({10, 1}).subtree);
  EXPECT_EQ(set.files.at({10, 1}).last_data, sealed.seal);
  EXPECT_EQ(set.files.at({10, 1}).handle, handle_of({10, 1}));
  EXPECT_EQ(set.names.size(), 3u) << "the directory's own, and two in the root";
  EXPECT_EQ(set.files.size(), 4u) << "root, directory, and the files that those lead to";
  EXPECT_TRUE(set.files.at({500, 1}).fresh);

  // What comes later is told, and the mark stays, whoever merges it.
  fill(10, 3);
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{2}, {}));
  must(checkpoints().compact({}));
  ASSERT_EQ(checkpoints().all().size(), 1u);
  set = fold(0, 2);
  EXPECT_TRUE(set.files.at({10, 1}).subtree);
  EXPECT_EQ(set.files.at({10, 1}).last_data, sealed.seal);
  EXPECT_EQ(set.names.size(), 6u);
}

TEST_F(SubtreesTest, MarkGoesWithItsDirectory) {
  open();
  make_directory(2, 10);
  fill(10, 100);
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{1}, {}));
  must(checkpoints().mark(choose(), {}));
  Record gone = create_of(10, "directory-10");
  gone.type = RecordType::kRemoveDirectory;
  record(gone);
  seal_and_publish();
  must(checkpoints().extend(EpochId{0}, EpochId{2}, {}));
  must(checkpoints().compact({}));
  EXPECT_FALSE(fold(0, 2).subtrees);
}

// ---- against a model ----

// Files that a look at the tree finds below the marks, and below what the set has moved and
// does not tell as new.
std::set<FileId> looked_at(const RecordedTree::Snapshot& tree, const ChangeSet& set) {
  std::multimap<FileId, FileId> below;
  std::map<FileId, bool> there;  // and whether it is a directory
  there[kRoot] = true;
  for (const auto& [key, node] : tree.names) {
    below.emplace(key.parent, node.id);
    there[node.id] = node.directory;
  }
  std::set<FileId> out;
  std::vector<FileId> pending;
  for (const auto& [id, change] : set.files) {
    if (change.subtree && there.count(id) && there.at(id)) pending.push_back(id);
  }
  auto look = [&] {
    for (; !pending.empty();) {
      const FileId id = pending.back();
      pending.pop_back();
      if (!out.insert(id).second) continue;
      for (auto [at, end] = below.equal_range(id); at != end; ++at) pending.push_back(at->second);
    }
  };
  look();
  for (const auto& [key, change] : set.names) {
    auto file = set.files.find(change.after);
    if (file == set.files.end() || !there.count(change.after)) continue;
    const bool directory = there.at(change.after);
    if (!file->second.fresh || (directory && set.subtrees)) pending.push_back(change.after);
  }
  look();
  return out;
}

void check_marked(const RecordedTree::Snapshot& before, const RecordedTree::Snapshot& after,
                  const ChangeSet& set) {
  ASSERT_FALSE(set.gap);
  const std::set<FileId> looked = looked_at(after, set);
  std::set<FileId> directories{kRoot};
  for (const auto& [life, node] : after.lives) {
    if (node.directory) directories.insert(node.id);
  }
  auto life_of = [](const RecordedTree::Snapshot& s, const NameKey& key) {
    auto at = s.names.find(key);
    return at == s.names.end() ? 0 : at->second.life;
  };
  std::set<NameKey> keys;
  for (const auto& [key, node] : before.names) keys.insert(key);
  for (const auto& [key, node] : after.names) keys.insert(key);
  for (const NameKey& key : keys) {
    const uint64_t is = life_of(after, key);
    if (life_of(before, key) == is || looked.count(key.parent)) continue;
    if (!directories.count(key.parent)) continue;  // went with it
    auto told = set.names.find(key);
    ASSERT_NE(told, set.names.end()) << key.name << " in " << key.parent.inode;
    ASSERT_EQ(told->second.after, is ? after.names.at(key).id : kNone) << key.name;
  }
  for (const auto& [life, now] : after.lives) {
    if (looked.count(now.id)) continue;
    auto was = before.lives.find(life);
    auto told = set.files.find(now.id);
    if (was == before.lives.end()) {
      ASSERT_NE(told, set.files.end()) << "new inode " << now.id.inode;
      ASSERT_TRUE(told->second.fresh) << "new inode " << now.id.inode;
      continue;
    }
    const bool same = was->second.changed == now.changed && was->second.data == now.data;
    ASSERT_TRUE(same || told != set.files.end()) << "inode " << now.id.inode;
    for (size_t i = 0; i < now.data.size(); ++i) {
      const char old = i < was->second.data.size() ? was->second.data[i] : '\0';
      if (old != now.data[i]) {
        ASSERT_TRUE(told->second.data.touches({i, i + 1})) << "byte " << i;
      }
    }
  }
}

// Marks come at any moment, by a tree that is ahead of the checkpoints.
TEST_F(SubtreesTest, RandomHistoriesWithMarksMissNothing) {
  Random random;
  size_t marked = 0;
  for (int history = 0; history < 40 && !HasFatalFailure(); ++history) {
    live(random,
         {
             .append = [&](const Record& r) { record(r); },
             .before_a_seal =
                 [&](const RecordedTree::Snapshot& now, const std::vector<EpochId>& cursors) {
                   if (!random.one_in(3)) return;
                   parents_.clear();
                   for (const auto& [key, node] : now.names) {
                     if (node.directory) parents_[node.id.inode] = key.parent.inode;
                   }
                   const Subtrees subtrees = choose();
                   marked += subtrees.marked().size();
                   must(checkpoints().mark(subtrees, {.boundaries = cursors}));
                 },
             .check =
                 [&](const auto& before, const auto& after, uint64_t since, uint64_t until) {
                   check_marked(before, after, fold(since, until, Fold::Cancel::kKeep));
                 },
         });
  }
  EXPECT_GT(marked, 100u);
}

}  // namespace
}  // namespace epochfs::journal
