// Change set: is the fold of a range's records its net effect? Small cases by
// name, and random histories against a tree in memory.
#include "journal/change_set.h"

#include <linux/fs.h>

#include <deque>
#include <set>

#include "tests/unit/support.h"

namespace epochfs {
namespace {

using namespace epochfs::testing;

constexpr FileId kNone{}, kRoot{2, 1}, kA{10, 1}, kB{11, 1}, kC{12, 1}, kDir{13, 1}, kDir2{14, 1};

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
  EXPECT_EQ(names(fold(Fold::Cancel::kKeep)),
            (Names{"a: 10 -> 10", "b: 0 -> 0", "c: 0 -> 0"}));
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

// A tree in memory, with the semantics of a directory on Linux, that writes the
// records which a mount would write.
struct Node {
  FileId id;
  uint64_t life = 0;  // tells files of the same identity apart
  bool directory = false;
  std::string data;
  uint64_t attributes = 0;  // bumped by every change of them
  uint64_t names = 0;       // links
  bool open = false;        // keeps a nameless file
};

class Model {
 public:
  using NodePtr = std::shared_ptr<Node>;
  using Key = std::pair<uint64_t, std::string>;  // life of the directory, name

  Model() {
    root_ = std::make_shared<Node>();
    root_->id = kRoot;
    root_->directory = true;
    root_->names = 1;
    directories_.push_back(root_);
  }

  // What a range's fold is compared with: every name, and each file's state.
  struct Snapshot {
    std::map<NameKey, Node> names;       // by the identity of the directory
    std::map<uint64_t, Node> lives;      // of all files that have a name
  };
  Snapshot snapshot() const {
    Snapshot s;
    for (const auto& [key, node] : entries_) {
      s.names[NameKey{lives_.at(key.first)->id, key.second}] = *node;
      s.lives[node->life] = *node;
    }
    return s;
  }

  // One random operation. Returns records that a Fold is to see.
  void step(Random& random, std::deque<Record>& out) {
    switch (random.below(12)) {
      case 0:
      case 1: return create(random, out, false);
      case 2: return create(random, out, true);
      case 3: return link(random, out);
      case 4:
      case 5: return unlink(random, out);
      case 6:
      case 7: return rename(random, out);
      case 8:
      case 9: return write(random, out);
      case 10: return truncate(random, out);
      case 11: return random.one_in(2) ? temporary(random, out) : attributes(random, out);
    }
  }

 private:
  NodePtr any_directory(Random& random) { return directories_[random.below(directories_.size())]; }
  std::string any_name(Random& random) { return std::string(1, char('a' + random.below(5))); }
  NodePtr lookup(const NodePtr& dir, const std::string& name) const {
    auto at = entries_.find({dir->life, name});
    return at == entries_.end() ? nullptr : at->second;
  }
  NodePtr any_file(Random& random) {
    std::vector<NodePtr> files;
    for (const auto& [key, node] : entries_) {
      if (!node->directory) files.push_back(node);
    }
    for (const auto& node : nameless_) files.push_back(node);
    return files.empty() ? nullptr : files[random.below(files.size())];
  }

  NodePtr make(Random& random, bool directory) {
    auto node = std::make_shared<Node>();
    node->life = ++last_life_;
    node->directory = directory;
    // Now and then the identity of a file that is gone: same inode, same tick.
    if (!gone_.empty() && random.one_in(4)) {
      node->id = gone_.back();
      gone_.pop_back();
    } else {
      node->id = {100 + node->life, 1};
    }
    lives_[node->life] = node;
    return node;
  }
  void lose_name(const NodePtr& node) {
    if (--node->names != 0 || node->open) return;
    forget(node);
  }
  void forget(const NodePtr& node) {
    gone_.push_back(node->id);
    std::erase(directories_, node);
  }

  Record& record(std::deque<Record>& out, RecordType type, const NodePtr& node) {
    Record& r = out.emplace_back();
    r.type = type;
    r.lsn = Lsn{++lsn_};
    if (node) r.file = node->id;
    return r;
  }
  void at(Record& r, const NodePtr& dir, const std::string& name) {
    r.parent = dir->id;
    r.name = names_.emplace_back(name);
    ++dir->attributes;
  }

  void create(Random& random, std::deque<Record>& out, bool directory) {
    NodePtr dir = any_directory(random);
    const std::string name = any_name(random);
    if (lookup(dir, name) || (directory && directories_.size() > 6)) return;
    NodePtr node = make(random, directory);
    node->names = 1;
    entries_[{dir->life, name}] = node;
    if (directory) directories_.push_back(node);
    at(record(out, directory ? RecordType::kMakeDirectory : RecordType::kCreate, node), dir, name);
  }
  void temporary(Random& random, std::deque<Record>& out) {
    NodePtr node = make(random, false);
    node->open = true;
    nameless_.push_back(node);
    record(out, RecordType::kTemporary, node);
  }
  void link(Random& random, std::deque<Record>& out) {
    NodePtr dir = any_directory(random), node = any_file(random);
    const std::string name = any_name(random);
    if (!node || lookup(dir, name)) return;
    // Only a file that was made without a name can get its first one. A record of
    // its own type, since the file is new to every target, whenever it was made.
    const bool first = node->names == 0;
    if (first && !node->open) return;
    if (first) std::erase(nameless_, node);
    ++node->names;
    ++node->attributes;
    entries_[{dir->life, name}] = node;
    at(record(out, first ? RecordType::kCreate : RecordType::kLink, node), dir, name);
  }
  void unlink(Random& random, std::deque<Record>& out) {
    NodePtr dir = any_directory(random);
    const std::string name = any_name(random);
    NodePtr node = lookup(dir, name);
    if (!node || (node->directory && !is_empty(node))) return;
    at(record(out, node->directory ? RecordType::kRemoveDirectory : RecordType::kUnlink, node), dir,
       name);
    entries_.erase({dir->life, name});
    lose_name(node);  // its ctime and links are not what a target keeps
  }
  bool is_empty(const NodePtr& dir) const {
    auto first = entries_.lower_bound({dir->life, ""});
    return first == entries_.end() || first->first.first != dir->life;
  }
  // Whether `node` is `dir` or lies above it.
  bool contains(const NodePtr& node, const NodePtr& dir) const {
    if (node == dir) return true;
    if (dir == root_) return false;
    for (const auto& [key, entry] : entries_) {
      if (entry == dir) return contains(node, lives_.count(key.first) ? lives_.at(key.first) : root_);
    }
    return false;
  }
  void rename(Random& random, std::deque<Record>& out) {
    NodePtr from = any_directory(random), to = any_directory(random);
    const std::string name = any_name(random), name2 = any_name(random);
    NodePtr node = lookup(from, name), other = lookup(to, name2);
    const bool exchange = random.one_in(3);
    if (!node || node == other || (exchange && !other)) return;
    if (node->directory && contains(node, to)) return;
    if (exchange && other->directory && contains(other, from)) return;
    if (!exchange && other) {
      if (node->directory != other->directory) return;
      if (other->directory && (!is_empty(other) || other == from)) return;
    }
    Record& r = record(out, RecordType::kRename, node);
    at(r, from, name);
    r.parent2 = to->id;
    r.name2 = names_.emplace_back(name2);
    ++to->attributes;
    if (other) r.other = other->id;
    r.mode = exchange ? RENAME_EXCHANGE : 0;
    ++node->attributes;
    entries_.erase({from->life, name});
    entries_[{to->life, name2}] = node;
    if (exchange) {
      entries_[{from->life, name}] = other;
    } else if (other) {
      lose_name(other);
    }
  }
  void write(Random& random, std::deque<Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    const uint64_t begin = random.below(40), end = begin + 1 + random.below(20);
    if (node->data.size() < end) node->data.resize(end);
    for (uint64_t i = begin; i < end; ++i) node->data[i] = char('A' + random.below(26));
    ++node->attributes;
    record(out, RecordType::kWrite, node).range = {begin, end};
  }
  void truncate(Random& random, std::deque<Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    const uint64_t size = random.below(60);
    node->data.resize(size);
    ++node->attributes;
    record(out, RecordType::kTruncate, node).range = {size, ByteRange::kEndOfFile};
  }
  void attributes(Random& random, std::deque<Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    ++node->attributes;
    record(out, RecordType::kSetAttributes, node).mode = 1;
  }

  NodePtr root_;
  std::vector<NodePtr> directories_, nameless_;
  std::map<Key, NodePtr> entries_;
  std::map<uint64_t, NodePtr> lives_{{0, nullptr}};
  std::vector<FileId> gone_;
  std::deque<std::string> names_;
  uint64_t last_life_ = 0, lsn_ = 0;

 public:
  void finish_setup() { lives_[0] = root_; }
};

// The net-effect property, for one range.
void check(const Model::Snapshot& before, const Model::Snapshot& after, const ChangeSet& set) {
  ASSERT_FALSE(set.gap);
  std::set<FileId> fresh_ids;
  for (const auto& [life, node] : after.lives) {
    if (!before.lives.count(life)) fresh_ids.insert(node.id);
  }
  std::set<NameKey> keys;
  for (const auto& [key, node] : before.names) keys.insert(key);
  for (const auto& [key, node] : after.names) keys.insert(key);

  // Every name that means another file now is there, with both meanings.
  for (const NameKey& key : keys) {
    auto was = before.names.find(key), is = after.names.find(key);
    const uint64_t old_life = was == before.names.end() ? 0 : was->second.life;
    const uint64_t new_life = is == after.names.end() ? 0 : is->second.life;
    const FileId old_id = old_life ? was->second.id : kNone;
    const FileId new_id = new_life ? is->second.id : kNone;
    auto change = set.names.find(key);
    if (change == set.names.end()) {
      ASSERT_EQ(old_life, new_life) << "name " << key.name << " changed and is not there";
      continue;
    }
    ASSERT_TRUE(change->second.before_known);
    ASSERT_EQ(change->second.before, old_id) << key.name;
    ASSERT_EQ(change->second.after, new_id) << key.name;
    ASSERT_TRUE(old_life != new_life || fresh_ids.count(new_id)) << key.name << " cancels out";
  }
  // And no other.
  for (const auto& [key, change] : set.names) {
    ASSERT_TRUE(keys.count(key)) << key.name << " never was and never is";
  }
  // Files: what is new is fresh, what changed covers its bytes.
  for (const auto& [life, now] : after.lives) {
    auto was = before.lives.find(life);
    auto change = set.files.find(now.id);
    if (was == before.lives.end()) {
      ASSERT_NE(change, set.files.end());
      ASSERT_TRUE(change->second.fresh);
      ASSERT_TRUE(now.directory || change->second.data.touches({0, 1}));
      continue;
    }
    const Node& then = was->second;
    ASSERT_TRUE(then.attributes == now.attributes || change != set.files.end());
    if (change == set.files.end()) {
      ASSERT_EQ(then.data, now.data);
      continue;
    }
    ASSERT_FALSE(change->second.fresh);
    ASSERT_FALSE(change->second.whole);
    for (size_t i = 0; i < now.data.size(); ++i) {
      const char old = i < then.data.size() ? then.data[i] : '\0';
      if (old != now.data[i]) {
        ASSERT_TRUE(change->second.data.touches({i, i + 1})) << "byte " << i;
      }
    }
    if (then.data == now.data && change->second.last_data == Lsn{0}) {
      ASSERT_TRUE(change->second.data.empty());
    }
  }
  // Fresh files that nobody can reach are not there.
  for (const auto& [id, change] : set.files) {
    ASSERT_TRUE(!change.fresh || fresh_ids.count(id)) << "inode " << id.inode;
  }
}

TEST(FoldModel, RandomHistoriesFoldToTheirNetEffect) {
  Random random;
  for (int history = 0; history < 400; ++history) {
    Model model;
    model.finish_setup();
    for (int range = 0; range < 8; ++range) {
      const auto before = model.snapshot();
      std::deque<Record> records;
      const uint64_t steps = 1 + random.below(60);
      for (uint64_t i = 0; i < steps; ++i) model.step(random, records);
      Fold fold;
      for (const Record& r : records) fold.add(r);
      check(before, model.snapshot(), fold.finish());
      if (::testing::Test::HasFatalFailure()) {
        FAIL() << "history " << history << ", range " << range;
      }
    }
  }
}

// Ranges that were folded apart tell the same as one that was folded in one go,
// as far as names go: what a merge forward relies on.
TEST(FoldModel, LongRangeTellsTheSameAsItsParts) {
  Random random;
  for (int history = 0; history < 200; ++history) {
    Model model;
    model.finish_setup();
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
    ASSERT_EQ(applied, in_one) << "history " << history;
    const auto after = model.snapshot();
    ASSERT_EQ(in_one.size(), after.names.size());
    for (const auto& [key, node] : after.names) ASSERT_EQ(in_one.at(key), node.id);
  }
}

}  // namespace
}  // namespace epochfs
