// Mutator: what will applications do to a tree next? Random operations, with few names for
// many files, so that names change hands all the time. Now and then it plays one of the
// patterns that replication gets wrong: replaced files, swapped directories, names that are
// used for a moment.
//
// It keeps a model of the tree. It does each operation to the directory and to the model, and
// both must give the same errno.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "tests/e2e/model.h"
#include "tests/support/random.h"

namespace epochfs::testing {

class Mutator {
 public:
  static constexpr size_t kMostEntries = 300;  // about

  // Reserving storage: no file system says reliably which of it is a hole.
  enum class Preallocation { kNever, kSometimes };

  // The directory is empty, or what this mutator has made of it. Seeded from `random`.
  Mutator(std::string directory, Random& random,
          Preallocation preallocation = Preallocation::kNever);

  // Does n operations. Throws Failure where the directory and the model disagree.
  void run(size_t n);
  const Model& model() const { return model_; }

 private:
  using Listed = Model::Listed;
  using Choice = void (Mutator::*)();
  struct Row {
    unsigned weight;
    Choice choose;
  };
  static const Row kRows[];

  void choose();  // puts operations into next_
  void plan(Operation operation) { next_.push_back(std::move(operation)); }

  // What there is to choose from; null: nothing.
  const Listed* any(uint32_t type = 0);
  std::string any_directory();  // may be the root, ""
  std::string any_name();
  std::string any_place();  // a name in a directory, in use or not
  uint64_t any_offset(const Listed& file);
  uint64_t any_length();

  void create();
  void make_directory();
  void make_node();
  void make_symlink();
  void make_link();
  void unlink();
  void remove_tree();
  void rename();
  void swap_names();
  void replace_by_rename();
  void use_name_briefly();
  void move_over_new_directory();
  void write();
  void append();
  void write_mapped();
  void truncate();
  void allocate();
  void copy_range();
  void change_mode();
  void change_owner();
  void change_times();
  void set_xattr();
  void remove_xattr();
  void do_what_must_fail();

  std::string directory_;
  Random random_;
  const Preallocation preallocation_;
  Model model_;
  std::vector<Listed> files_;  // of model_, when choose() began
  std::deque<Operation> next_;
};

}  // namespace epochfs::testing
