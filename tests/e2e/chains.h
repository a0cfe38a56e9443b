// Chains: is a tree a state that its writers could have crashed in?
//
// A chain is something in the tree that one writer counts up: the length of a log, the
// number in a file's name, an xattr, a stamp in a mapped page. So whatever a tree holds of
// it says how many of its steps the tree has seen. Each step notes when it began and when
// it had returned, on one clock that all writers share and that counts, not measures.
//
// A tree is a cut in the order of the steps if no step that it lacks had returned before
// one that it has began. That is all there is to check, and it needs no knowledge of when
// the cut was made.
//
// Threads: a Clock is shared; a Chain belongs to its writer while that runs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/random.h"

namespace epochfs::testing {

// The nth number of a chain, 0 before its first step. nullopt: what is there is no state
// that the chain was ever in.
using Count = std::optional<uint64_t>;

class Clock {
 public:
  uint64_t tick() { return ++now_; }

 private:
  std::atomic<uint64_t> now_{0};
};

class Chain {
 public:
  struct Way {
    const char* name;
    // Makes step n in a directory of the chain's own. 0 or errno.
    int (*step)(const std::string& dir, uint64_t n);
    // Reads what the directory holds.
    Count (*read)(const std::string& dir);
    // Whether a step that returned has to be in a cut with all that began later. A store
    // into a mapped page, which nobody sees, has only to be in what is cut later.
    bool ordered = true;
  };
  static const std::vector<Way>& ways();

  Chain(const Way& way, std::string name) : way_(way), name_(std::move(name)) {}

  // Makes the next step below `root`. 0 or errno; after an error, resume().
  int step(Clock& clock, const std::string& root);
  // The last step failed, because the mount had gone: finds out whether it happened.
  void resume(Clock& clock, const std::string& root);
  std::string describe(const std::string& root) const;

 private:
  friend std::string not_a_cut(const std::vector<std::unique_ptr<Chain>>&, const std::string&,
                               uint64_t);
  struct Step {
    uint64_t began, returned;
  };
  std::string dir(const std::string& root) const { return root + "/" + name_; }

  const Way& way_;
  const std::string name_;
  std::vector<Step> steps_;
};

// Empty: the tree below `root` is a cut, and has every step that had returned at `since`.
// Else why not. The chains must be at rest.
std::string not_a_cut(const std::vector<std::unique_ptr<Chain>>& chains, const std::string& root,
                      uint64_t since);

// Threads that make steps of chains, each of a chain of every kind.
class ChainWriters {
 public:
  ChainWriters(std::string root, Random& random, int writers);
  ~ChainWriters() { stop(); }

  void start();
  void stop();
  // After the mount had gone, and is back: before start().
  void resume();
  // Returns when they have made so many steps more.
  void let_them_write(uint64_t steps);

  Clock& clock() { return clock_; }
  const std::vector<std::unique_ptr<Chain>>& chains() const { return chains_; }
  // Of a tree that was taken of theirs; they must be at rest.
  std::string not_a_cut(const std::string& root, uint64_t since) const {
    return testing::not_a_cut(chains_, root, since);
  }

 private:
  const std::string root_;
  Random& random_;
  const int writers_;
  Clock clock_;
  std::vector<std::unique_ptr<Chain>> chains_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> steps_{0};
};

}  // namespace epochfs::testing
