// Random: what chance do tests take, and how is a failure repeated? The seed comes from
// EPOCHFS_TEST_SEED if that is set. The command that repeats the test is printed.
//
// Each thread needs an object of its own.
#pragma once

#include <cstdint>
#include <iterator>
#include <random>
#include <string>

#include "journal/base/types.h"

namespace epochfs::testing {

class Random {
 public:
  // Prints how to repeat the test that runs.
  Random();
  // Prints nothing. For one of many rounds, so that a repeated run can begin with the one
  // that failed.
  explicit Random(uint64_t seed) : seed_(seed), engine_(seed) {}

  uint64_t seed() const { return seed_; }
  uint64_t u64() { return engine_(); }
  // Uniform in [0, n).
  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(engine_); }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <typename Container>
  const auto& one_of(const Container& from) {
    return *(std::begin(from) + ptrdiff_t(below(std::size(from))));
  }
  // Any bytes except NUL and '/', as a file name may have them.
  std::string name(size_t size);
  FileHandle handle(size_t size);
  FileId id() { return {u64(), u64()}; }

 private:
  uint64_t seed_;
  std::mt19937_64 engine_;
};

// Bytes that follow from a seed alone. One seed in 16 gives zeros, three more in 16 give what
// compresses well.
std::string bytes_of(uint64_t seed, uint64_t length);

}  // namespace epochfs::testing
