// Operations: random ones on a TreeOracle, of every kind that a user of a file system has.
// Few names for many files, so that names change hands all the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/random.h"
#include "tests/support/tree_oracle.h"

namespace epochfs::testing {

class Operations {
 public:
  Operations(TreeOracle& tree, Random& random, uint64_t max_bytes = 40'000)
      : m_(tree), random_(random), max_bytes_(max_bytes) {}

  void run(size_t count);

 private:
  std::vector<OracleName> places(bool directories, bool files) const;
  FileId any_directory();
  FileId any_regular();  // none: there is no file
  std::string any_name();
  OracleName any_place() { return {any_directory(), any_name()}; }
  std::string bytes(size_t size);
  size_t size_of(FileId id) const;  // of the tree, in files

  void one();
  void create();
  void make_directory();
  void write();
  void resize();
  void rename();
  void exchange();
  void link();
  void unlink();
  void remove_tree();
  void attributes();
  void special();
  void reincarnate();

  TreeOracle& m_;
  Random& random_;
  uint64_t max_bytes_;
};

}  // namespace epochfs::testing
