// RecordedTree: a TreeOracle that random operations change, and the records that a mount
// would write of them. check() and check_excess() ask: is a change set the net effect between
// two states of the tree?
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "journal/changes/change_set.h"
#include "tests/support/random.h"
#include "tests/support/tree_oracle.h"

namespace epochfs::testing {

constexpr FileId kNone{}, kRoot{2, 1};

class RecordedTree {
 public:
  // What a range's fold is compared with: every name, and the state of each file.
  struct File {
    FileId id;
    uint64_t life = 0;  // tells files of the same identity apart
    bool directory = false;
    std::string data;
    OracleTime changed;
  };
  struct Snapshot {
    std::map<journal::NameKey, File> names;  // by the identity of the directory
    std::map<uint64_t, File> lives;          // of all files that have a name
  };
  Snapshot snapshot() const;

  // One random operation. Appends the records that a Fold is to see; their names live as
  // long as this object.
  void step(Random& random, std::deque<journal::Record>& out);

 private:
  using Records = std::deque<journal::Record>;

  FileId any_directory(Random& random);
  OracleName any_place(Random& random);
  FileId any_file(Random& random);  // nameless ones, too; none: there is no file

  // Makes a file with `make(identity)`. Identities are {inode, 1}, so that tests can tell one
  // from its inode number. Now and then it is that of a file that is gone, as when an inode
  // number is used again within a tick of the clock.
  template <typename Make>
  FileId with_identity(Random& random, Make make);
  void after_losing_a_name(FileId id);

  journal::Record& record(Records& out, journal::RecordType type, FileId file);
  void at(journal::Record& r, const OracleName& name);
  std::string_view keep(const std::string& name) { return names_.emplace_back(name); }

  void create(Random& random, Records& out, bool directory);
  void temporary(Random& random, Records& out);
  void link(Random& random, Records& out);
  void unlink(Random& random, Records& out);
  void close(Random& random);
  void rename(Random& random, Records& out);
  void write(Random& random, Records& out);
  void truncate(Random& random, Records& out);
  void punch(Random& random, Records& out);
  void attributes(Random& random, Records& out);

  TreeOracle tree_;
  std::vector<FileId> nameless_;
  std::vector<FileId> gone_;
  std::deque<std::string> names_;  // that records point to
  uint64_t lsn_ = 0, last_inode_ = 100;
};

// Nothing is told that no record of the range tells.
void check_excess(const std::deque<journal::Record>& records, const journal::ChangeSet& set);

// The net-effect property, for one range.
void check(const RecordedTree::Snapshot& before, const RecordedTree::Snapshot& after,
           const journal::ChangeSet& set);

}  // namespace epochfs::testing
