// Random: what chance do tests take, and how is a failure repeated? The seed comes
// from EPOCHFS_TEST_SEED if that is set; the command that repeats is printed.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace epochfs::testing {

class Random {
 public:
  // To be made within a test.
  Random() {
    const char* given = std::getenv("EPOCHFS_TEST_SEED");
    const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    const char* program = std::getenv("EPOCHFS_PROGRAM");
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::printf("repeat with: EPOCHFS_TEST_SEED=%llu EPOCHFS_PROGRAM=%s %s --gtest_filter=%s.%s\n",
                static_cast<unsigned long long>(seed), program ? program : "",
                ::program_invocation_name, test->test_suite_name(), test->name());
    std::fflush(stdout);
    engine_.seed(seed);
  }
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint64_t u64() { return engine_(); }
  // Uniform in [0, n).
  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(engine_); }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <typename Container>
  const auto& one_of(const Container& from) {
    return *(std::begin(from) + ptrdiff_t(below(std::size(from))));
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace epochfs::testing
