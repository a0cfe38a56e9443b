#include "tests/unit/journal/changes/recorded_tree.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

namespace epochfs::testing {

using journal::RecordType;

RecordedTree::Snapshot RecordedTree::snapshot() const {
  Snapshot s;
  for (const auto& [id, directory] : tree_.files) {
    for (const auto& [name, child] : directory.children) {
      const OracleFile& f = tree_.at(child);
      const File file{.id = child,
                      .life = f.born,
                      .directory = f.is_dir(),
                      .data = f.data.all(),
                      .changed = f.attributes.ctime};
      s.names[journal::NameKey{id, name}] = file;
      s.lives[f.born] = file;
    }
  }
  return s;
}

void RecordedTree::step(Random& random, Records& out) {
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

// ---- choosing ----

FileId RecordedTree::any_directory(Random& random) {
  std::vector<FileId> directories;
  for (const auto& [id, file] : tree_.files) {
    if (file.is_dir()) directories.push_back(id);
  }
  return random.one_of(directories);
}

// Few names, so that they are used again and again.
OracleName RecordedTree::any_place(Random& random) {
  return {any_directory(random), std::string(1, char('a' + random.below(5)))};
}

FileId RecordedTree::any_file(Random& random) {
  std::vector<FileId> files = nameless_;
  for (const auto& [id, file] : tree_.files) {
    if (!file.is_dir()) files.insert(files.end(), file.links, id);
  }
  return files.empty() ? FileId{} : random.one_of(files);
}

// ---- records ----

journal::Record& RecordedTree::record(Records& out, RecordType type, FileId file) {
  journal::Record& r = out.emplace_back();
  r.type = type;
  r.lsn = Lsn{++lsn_};
  r.file = file;
  return r;
}

void RecordedTree::at(journal::Record& r, const OracleName& name) {
  r.parent = name.directory;
  r.name = keep(name.name);
}

// ---- names ----

template <typename Make>
FileId RecordedTree::with_identity(Random& random, Make make) {
  const bool again = !gone_.empty() && random.one_in(4);
  const FileId made = make(again ? gone_.back() : FileId{++last_inode_, 1});
  if (made && again) gone_.pop_back();
  return made;
}

void RecordedTree::after_losing_a_name(FileId id) {
  if (!tree_.has(id)) {
    gone_.push_back(id);
  } else if (tree_.at(id).links == 0) {
    nameless_.push_back(id);
  }
}

void RecordedTree::create(Random& random, Records& out, bool directory) {
  constexpr long kMostDirectories = 6;
  const OracleName place = any_place(random);
  const long directories = std::count_if(tree_.files.begin(), tree_.files.end(),
                                         [](const auto& entry) { return entry.second.is_dir(); });
  if (directory && directories > kMostDirectories) return;
  const FileId made = with_identity(random, [&](FileId identity) {
    FileId id;
    tree_.make(place, directory ? S_IFDIR | 0755 : S_IFREG | 0644, &id, identity);
    return id;
  });
  if (!made) return;
  at(record(out, directory ? RecordType::kMakeDirectory : RecordType::kCreate, made), place);
}

void RecordedTree::temporary(Random& random, Records& out) {
  const FileId made = with_identity(
      random, [&](FileId identity) { return tree_.make_temporary(S_IFREG | 0600, identity); });
  nameless_.push_back(made);
  record(out, RecordType::kTemporary, made);
}

void RecordedTree::link(Random& random, Records& out) {
  const OracleName place = any_place(random);
  const FileId id = any_file(random);
  if (!id) return;
  // A file that was made without a name gets its first one by a record of its own type,
  // since it is new to every target, whenever it was made.
  const bool first = tree_.at(id).links == 0;
  if (tree_.add_link(id, place)) return;
  if (first) std::erase(nameless_, id);
  at(record(out, first ? RecordType::kCreate : RecordType::kLink, id), place);
}

void RecordedTree::unlink(Random& random, Records& out) {
  const OracleName place = any_place(random);
  const FileId id = tree_.lookup(place);
  if (!id) return;
  const bool directory = tree_.at(id).is_dir();
  // An application may have it open, and go on writing.
  if (!directory && random.one_in(3)) tree_.hold(id);
  if (directory ? tree_.remove_directory(place) : tree_.remove_file(place)) return;
  at(record(out, directory ? RecordType::kRemoveDirectory : RecordType::kUnlink, id), place);
  after_losing_a_name(id);
}

void RecordedTree::close(Random& random) {
  if (nameless_.empty()) return;
  const FileId id = random.one_of(nameless_);
  std::erase(nameless_, id);
  tree_.release(id);
  gone_.push_back(id);
}

void RecordedTree::rename(Random& random, Records& out) {
  const OracleName from = any_place(random), to = any_place(random);
  const FileId id = tree_.lookup(from), other = tree_.lookup(to);
  const bool exchange = random.one_in(3);
  const uint32_t flags = exchange ? RENAME_EXCHANGE : 0;
  if (id == other || tree_.move(from, to, flags)) return;
  journal::Record& r = record(out, RecordType::kRename, id);
  at(r, from);
  r.parent2 = to.directory;
  r.name2 = keep(to.name);
  r.other = other;
  r.mode = flags;
  if (exchange) {
    record(out, RecordType::kSetAttributes, other).mode = 1;
  } else if (other) {
    after_losing_a_name(other);
  }
}

// ---- what a file is ----

void RecordedTree::write(Random& random, Records& out) {
  const FileId id = any_file(random);
  if (!id) return;
  const uint64_t begin = random.below(40);
  std::string bytes(1 + random.below(20), '\0');
  for (char& c : bytes) c = char('A' + random.below(26));
  tree_.write(id, begin, bytes);
  record(out, RecordType::kWrite, id).range = {begin, begin + bytes.size()};
}

void RecordedTree::truncate(Random& random, Records& out) {
  const FileId id = any_file(random);
  if (!id) return;
  const uint64_t size = random.below(60);
  tree_.truncate(id, size);
  record(out, RecordType::kTruncate, id).range = {size, ByteRange::kEndOfFile};
}

void RecordedTree::punch(Random& random, Records& out) {
  const FileId id = any_file(random);
  if (!id) return;
  const uint64_t begin = random.below(40), end = begin + 1 + random.below(20);
  tree_.allocate(id, begin, end, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  record(out, RecordType::kAllocate, id).range = {begin, end};
}

void RecordedTree::attributes(Random& random, Records& out) {
  const FileId id = any_file(random);
  if (!id) return;
  tree_.set_mode(id, uint32_t(random.below(01000)));
  record(out, RecordType::kSetAttributes, id).mode = 1;
}

// ---- comparing ----

void check_excess(const std::deque<journal::Record>& records, const journal::ChangeSet& set) {
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

void check(const RecordedTree::Snapshot& before, const RecordedTree::Snapshot& after,
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
    const RecordedTree::File& then = was->second;
    ASSERT_TRUE(then.changed == now.changed || change != set.files.end());
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
