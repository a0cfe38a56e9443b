// Model: what should a tree be after these operations? A TreeOracle whose files are found by
// path, for operations that are done to a real directory as well. It knows no times: those of
// the directory are the clock's.
#pragma once

#include <string>
#include <vector>

#include "tests/e2e/operation.h"
#include "tests/support/tree_oracle.h"

namespace epochfs::testing {

class Model {
 public:
  // 0 or the errno that the kernel would give.
  int apply(const Operation& operation);

  // With modes, owners, sizes, links, xattrs and contents; see Strictness for the rest.
  TreeSnapshot snapshot() const { return tree_.snapshot(); }

  // Paths below the root. "" is the root itself.
  struct Listed {
    std::string path;
    uint32_t type = 0;  // as in st_mode
    uint64_t size = 0;
    FileId file;         // the same for names of one file
    bool empty = false;  // of a directory
    std::vector<std::string> xattrs = {};
  };
  std::vector<Listed> list() const;

 private:
  // A path, looked up. Where its last name is not in use, there is no file.
  struct Place {
    int error = 0;
    OracleName name;
    FileId file;

    int missing() const;  // 0: there is a file
  };

  Place find(const std::string& path) const;
  int add(const Operation& o);
  int copy_range(const Operation& o);
  int change_content(const Operation& o, FileId file);
  int change_attributes(const Operation& o, FileId file);
  void list_below(FileId directory, const std::string& path, std::vector<Listed>& out) const;

  TreeOracle tree_;
};

}  // namespace epochfs::testing
