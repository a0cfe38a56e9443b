// TreeModel: a directory tree in memory that writes the records which a mount would
// write, and check(): is a change set the net effect between two of its states?
#pragma once

#include <linux/fs.h>

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "journal/changes/change_set.h"
#include "tests/support/random.h"

namespace epochfs::testing {

constexpr FileId kNone{}, kRoot{2, 1};

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
  bool linkable = false;    // was made without a name, and has had none yet
};

class TreeModel {
 public:
  using NodePtr = std::shared_ptr<Node>;
  using Key = std::pair<uint64_t, std::string>;  // life of the directory, name

  TreeModel() {
    root_ = std::make_shared<Node>();
    root_->id = kRoot;
    root_->directory = true;
    root_->names = 1;
    directories_.push_back(root_);
  }

  // What a range's fold is compared with: every name, and each file's state.
  struct Snapshot {
    std::map<journal::NameKey, Node> names;  // by the identity of the directory
    std::map<uint64_t, Node> lives;          // of all files that have a name
  };
  Snapshot snapshot() const {
    Snapshot s;
    for (const auto& [key, node] : entries_) {
      s.names[journal::NameKey{lives_.at(key.first)->id, key.second}] = *node;
      s.lives[node->life] = *node;
    }
    return s;
  }

  // One random operation. Returns records that a Fold is to see.
  void step(Random& random, std::deque<journal::Record>& out) {
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
      case 10: return random.one_in(2) ? truncate(random, out) : punch(random, out);
      case 11:
        if (random.one_in(4)) return close(random);
        return random.one_in(2) ? temporary(random, out) : attributes(random, out);
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
    if (--node->names != 0) return;
    node->open ? nameless_.push_back(node) : forget(node);
  }
  void forget(const NodePtr& node) {
    gone_.push_back(node->id);
    std::erase(directories_, node);
  }

  journal::Record& record(std::deque<journal::Record>& out, journal::RecordType type,
                          const NodePtr& node) {
    journal::Record& r = out.emplace_back();
    r.type = type;
    r.lsn = Lsn{++lsn_};
    if (node) r.file = node->id;
    return r;
  }
  void at(journal::Record& r, const NodePtr& dir, const std::string& name) {
    r.parent = dir->id;
    r.name = names_.emplace_back(name);
    ++dir->attributes;
  }

  void create(Random& random, std::deque<journal::Record>& out, bool directory) {
    NodePtr dir = any_directory(random);
    const std::string name = any_name(random);
    if (lookup(dir, name) || (directory && directories_.size() > 6)) return;
    NodePtr node = make(random, directory);
    node->names = 1;
    entries_[{dir->life, name}] = node;
    if (directory) directories_.push_back(node);
    at(record(out, directory ? journal::RecordType::kMakeDirectory : journal::RecordType::kCreate,
              node),
       dir, name);
  }
  void temporary(Random& random, std::deque<journal::Record>& out) {
    NodePtr node = make(random, false);
    node->open = node->linkable = true;
    nameless_.push_back(node);
    record(out, journal::RecordType::kTemporary, node);
  }
  void link(Random& random, std::deque<journal::Record>& out) {
    NodePtr dir = any_directory(random), node = any_file(random);
    const std::string name = any_name(random);
    if (!node || lookup(dir, name)) return;
    // Only a file that was made without a name can get its first one. A record of
    // its own type, since the file is new to every target, whenever it was made.
    const bool first = node->names == 0;
    if (first && !node->linkable) return;
    if (first) std::erase(nameless_, node);
    node->linkable = false;
    ++node->names;
    ++node->attributes;
    entries_[{dir->life, name}] = node;
    at(record(out, first ? journal::RecordType::kCreate : journal::RecordType::kLink, node), dir,
       name);
  }
  void unlink(Random& random, std::deque<journal::Record>& out) {
    NodePtr dir = any_directory(random);
    const std::string name = any_name(random);
    NodePtr node = lookup(dir, name);
    if (!node || (node->directory && !is_empty(node))) return;
    at(record(
           out,
           node->directory ? journal::RecordType::kRemoveDirectory : journal::RecordType::kUnlink,
           node),
       dir, name);
    entries_.erase({dir->life, name});
    // Somebody may have it open, and go on writing.
    if (!node->directory && random.one_in(3)) node->open = true;
    lose_name(node);  // its ctime and links are not what a target keeps
  }
  void close(Random& random) {
    if (nameless_.empty()) return;
    const NodePtr node = nameless_[random.below(nameless_.size())];
    std::erase(nameless_, node);
    forget(node);
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
      if (entry == dir)
        return contains(node, lives_.count(key.first) ? lives_.at(key.first) : root_);
    }
    return false;
  }
  void rename(Random& random, std::deque<journal::Record>& out) {
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
    journal::Record& r = record(out, journal::RecordType::kRename, node);
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
      ++other->attributes;
      record(out, journal::RecordType::kSetAttributes, other).mode = 1;
    } else if (other) {
      lose_name(other);
    }
  }
  void write(Random& random, std::deque<journal::Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    const uint64_t begin = random.below(40), end = begin + 1 + random.below(20);
    if (node->data.size() < end) node->data.resize(end);
    for (uint64_t i = begin; i < end; ++i) node->data[i] = char('A' + random.below(26));
    ++node->attributes;
    record(out, journal::RecordType::kWrite, node).range = {begin, end};
  }
  void truncate(Random& random, std::deque<journal::Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    const uint64_t size = random.below(60);
    node->data.resize(size);
    ++node->attributes;
    record(out, journal::RecordType::kTruncate, node).range = {size, ByteRange::kEndOfFile};
  }
  void punch(Random& random, std::deque<journal::Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    const uint64_t begin = random.below(40), end = begin + 1 + random.below(20);
    for (uint64_t i = begin; i < std::min<uint64_t>(end, node->data.size()); ++i) node->data[i] = 0;
    ++node->attributes;
    record(out, journal::RecordType::kAllocate, node).range = {begin, end};
  }
  void attributes(Random& random, std::deque<journal::Record>& out) {
    NodePtr node = any_file(random);
    if (!node) return;
    ++node->attributes;
    record(out, journal::RecordType::kSetAttributes, node).mode = 1;
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

// Nothing is told that no record of the range tells.
inline void check_excess(const std::deque<journal::Record>& records,
                         const journal::ChangeSet& set) {
  std::map<FileId, journal::ByteRanges> touched;
  for (const journal::Record& r : records) {
    for (const FileId& id : {r.file, r.parent, r.parent2, r.other}) touched[id];
    touched[r.file].add(r.range);
  }
  for (const auto& [id, change] : set.files) {
    auto told = touched.find(id);
    ASSERT_NE(told, touched.end()) << "inode " << id.inode;
    if (change.fresh) continue;  // new in every byte
    journal::ByteRanges excess = change.data;
    excess.subtract(told->second);
    ASSERT_TRUE(excess.empty()) << excess.bytes() << " bytes of inode " << id.inode;
  }
}

// The net-effect property, for one range.
inline void check(const TreeModel::Snapshot& before, const TreeModel::Snapshot& after,
                  const journal::ChangeSet& set) {
  ASSERT_FALSE(set.gap);
  std::set<FileId> fresh_ids;
  for (const auto& [life, node] : after.lives) {
    if (!before.lives.count(life)) fresh_ids.insert(node.id);
  }
  std::set<journal::NameKey> keys;
  for (const auto& [key, node] : before.names) keys.insert(key);
  for (const auto& [key, node] : after.names) keys.insert(key);

  // Every name that means another file now is there, with both meanings.
  for (const journal::NameKey& key : keys) {
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

}  // namespace epochfs::testing
