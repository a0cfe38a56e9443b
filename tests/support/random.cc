#include "tests/support/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace epochfs::testing {
namespace {

uint64_t choose_seed() {
  const char* given = std::getenv("EPOCHFS_TEST_SEED");
  return given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

}  // namespace

Random::Random() : Random(choose_seed()) {
  const char* program = std::getenv("EPOCHFS_PROGRAM");
  std::printf("repeat with: EPOCHFS_TEST_SEED=%llu", static_cast<unsigned long long>(seed_));
  if (program) std::printf(" EPOCHFS_PROGRAM=%s", program);
  std::printf(" %s", ::program_invocation_name);
  if (const auto* test = ::testing::UnitTest::GetInstance()->current_test_info()) {
    std::printf(" --gtest_filter=%s.%s", test->test_suite_name(), test->name());
  }
  std::printf("\n");
  std::fflush(stdout);  // the process may be killed
}

std::string Random::name(size_t size) {
  std::string out(size, 'x');
  for (char& c : out) {
    do c = static_cast<char>(1 + below(255));
    while (c == '/');
  }
  return out;
}

FileHandle Random::handle(size_t size) {
  FileHandle h;
  h.type = static_cast<int32_t>(u64());
  h.size = static_cast<uint8_t>(size);
  for (size_t i = 0; i < size; ++i) h.bytes[i] = static_cast<uint8_t>(u64());
  return h;
}

std::string bytes_of(uint64_t seed, uint64_t length) {
  std::string bytes(length, '\0');
  if (seed % 16 == 0) return bytes;
  const bool compressible = seed % 4 == 0;
  uint64_t state = seed;
  for (size_t i = 0; i < length; i += 8) {
    state += 0x9e3779b97f4a7c15;  // splitmix64
    uint64_t z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    if (compressible) z = seed ^ (z & 0x0f);
    std::memcpy(&bytes[i], &z, std::min<size_t>(8, length - i));
  }
  return bytes;
}

}  // namespace epochfs::testing
