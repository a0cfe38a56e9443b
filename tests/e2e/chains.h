// Chains: is a tree a state that its writers could have crashed in?
//
// A chain is something in the tree that one writer counts up: the length of a log, the
// number in a file's name, an xattr, a stamp in a mapped page (tests/e2e/chain_ways.h). A
// tree therefore shows how many steps of the chain it has seen. Each step notes when it
// began and when it had returned.
//
// A tree is a cut in the order of the steps if this never happens: a step that the tree
// lacks had returned before a step that the tree has began. This check does not need the
// time of the cut. Where the time is known, every step must be on the right side of it.
//
// Writers are processes, as applications are. Their notes are in memory that they share
// with the test, so the test can look while they go on.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/chain_ways.h"
#include "tests/support/random.h"

namespace epochfs::testing {

// Nanoseconds since 1970, as in the journal.
using Time = uint64_t;
constexpr Time kNever = UINT64_MAX;

// Zeroed memory that is shared with processes that are forked later.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  void* get() const { return at_; }

 private:
  size_t bytes_;
  void* at_;
};
template <typename T>
class Shared {
 public:
  explicit Shared(size_t count = 1) : memory_(count * sizeof(T)) {}
  T& operator[](size_t i) const { return static_cast<T*>(memory_.get())[i]; }
  T& operator*() const { return (*this)[0]; }
  T* operator->() const { return &(*this)[0]; }

 private:
  SharedMemory memory_;
};

// When a cut was made, as far as that is known.
struct CutTime {
  Time asked = 0;  // what had returned by then is in the cut
  Time at = 0;     // and of the ordered, what by then; 0: not known
};

class Chain {
 public:
  Chain(const ChainWay& way, std::string name) : way_(way), name_(std::move(name)) {}

  // Makes the next step below `root`. 0 or errno; after an error, resume(). By one process.
  int step(const std::string& root);
  // The writer has gone, and the mount was for a while: finds out whether the last step
  // happened. What is wrong with what is there, empty: nothing.
  std::string resume(const std::string& root);
  std::string describe(const std::string& root) const;

 private:
  friend std::string not_a_cut(const std::vector<std::unique_ptr<Chain>>&, const std::string&,
                               CutTime);
  static constexpr size_t kMaxSteps = 1 << 16;
  struct Step {
    std::atomic<Time> began, returned;
  };

  const ChainWay& way_;
  const std::string name_;
  Place place_;
  Shared<std::atomic<uint64_t>> begun_;  // steps, that of now included
  Shared<Step> steps_{kMaxSteps};
};

// Empty: the tree below `root` is a cut, and made when `time` says. Else why not.
std::string not_a_cut(const std::vector<std::unique_ptr<Chain>>& chains, const std::string& root,
                      CutTime time);

// Processes that make steps of chains, each of a chain of every way.
class ChainWriters {
 public:
  // gathered: only ways whose order holds with -o writeback, too.
  ChainWriters(std::string root, Random& random, int writers, bool gathered = false);
  ~ChainWriters() { kill(); }

  void start();
  // Throws if a step of theirs has failed.
  void stop();
  // After the mount had gone, and is back: as stop(), but their last steps may have failed
  // for that. Finds out which happened; what is there must have all that returned.
  void stop_and_resume();
  // Returns when they have made so many steps more.
  void let_them_write(uint64_t steps);

  const std::vector<std::unique_ptr<Chain>>& chains() const { return chains_; }
  // Of a tree that was taken of theirs. They may go on meanwhile.
  std::string not_a_cut(const std::string& root, CutTime time) const {
    return testing::not_a_cut(chains_, root, time);
  }

 private:
  struct State {
    std::atomic<bool> stop;
    std::atomic<uint64_t> steps;
  };
  struct Ended {
    std::atomic<int> error;  // errno of the step that failed
    std::atomic<size_t> chain;
  };

  [[noreturn]] void write(int writer, uint64_t seed);
  void wait();
  void kill();
  std::string failed(bool mount_was_gone) const;

  const std::string root_;
  Random& random_;
  const int writers_;
  std::vector<std::unique_ptr<Chain>> chains_;
  std::vector<pid_t> processes_;
  Shared<State> state_;
  Shared<Ended> ended_;
};

}  // namespace epochfs::testing
