// Drives a fuzz target without libFuzzer: a bounded number of random inputs, or the
// files that are named as arguments. Every random input is one of the target's seeds
// with some bytes changed, bits flipped, parts moved, put in twice or cut off.
//
//   NAME_fuzz                  random inputs; EPOCHFS_TEST_SEED repeats a run,
//                              EPOCHFS_FUZZ_RUNS sets its length
//                              EPOCHFS_FUZZ_KEEP names a file for the input that runs
//   NAME_fuzz FILE...          these inputs
//   NAME_fuzz --seeds DIR      writes the seeds there: a corpus to begin with

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tests/fuzz/target.h"
#include "tests/support/files.h"
#include "tests/support/random.h"

namespace epochfs::fuzz {
namespace {

using testing::Random;

constexpr unsigned kHangSeconds = 60;  // for one input; ends the program with SIGALRM

void damage(std::string& bytes, Random& random) {
  if (bytes.empty()) return;
  const size_t at = random.below(bytes.size());
  const size_t size = 1 + random.below(std::min<size_t>(bytes.size() - at, 64));
  switch (random.below(7)) {
    case 0: bytes[at] = char(bytes[at] ^ 1 << random.below(8)); break;
    case 1: bytes[at] = char(random.u64()); break;
    case 2: bytes.resize(at); break;
    case 3: bytes.erase(at, random.one_in(2) ? 1 : size); break;
    case 4: bytes.insert(random.below(bytes.size()), bytes.substr(at, size)); break;
    case 5: {
      const size_t from = random.below(bytes.size());
      std::memmove(&bytes[at], &bytes[from], random.below(bytes.size() - std::max(at, from) + 1));
      break;
    }
    case 6: {  // numbers at the edge of what they can be
      constexpr uint64_t edges[] = {0,         1,          UINT32_MAX, 1ull << 32,
                                    INT64_MAX, 1ull << 63, UINT64_MAX};
      const uint64_t edge = edges[random.below(std::size(edges))];
      std::memcpy(&bytes[at], &edge, std::min(bytes.size() - at, sizeof edge));
      break;
    }
  }
}

void run(const std::string& bytes) {
  static const char* keep = std::getenv("EPOCHFS_FUZZ_KEEP");
  if (keep) testing::write_file(keep, bytes);
  ::alarm(kHangSeconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

int run_random() {
  Random random;
  const char* given = std::getenv("EPOCHFS_FUZZ_RUNS");
  const uint64_t wanted = given ? std::strtoull(given, nullptr, 10) : kShortRun;
  uint64_t runs = 0;
  while (runs < wanted) {
    for (const std::string& seed : seeds(random)) {
      for (int variant = 0; variant < 8; ++variant, ++runs) {
        std::string bytes = seed;
        for (int n = variant ? 1 + int(random.below(4)) : 0; n > 0; --n) damage(bytes, random);
        run(bytes);
      }
    }
  }
  std::printf("%llu inputs\n", static_cast<unsigned long long>(runs));
  return 0;
}

int write_seeds(const std::string& dir) {
  Random random;
  std::filesystem::create_directories(dir);
  size_t n = 0;
  for (int round = 0; round < 8; ++round) {
    for (const std::string& seed : seeds(random)) {
      testing::write_file(dir + "/seed-" + std::to_string(n++), seed);
    }
  }
  std::printf("%zu seeds in %s\n", n, dir.c_str());
  return 0;
}

}  // namespace
}  // namespace epochfs::fuzz

int main(int argc, char** argv) {
  using namespace epochfs;
  if (argc == 1) return fuzz::run_random();
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) return fuzz::write_seeds(argv[2]);
  for (int i = 1; i < argc; ++i) fuzz::run(epochfs::testing::read_whole_file(argv[i]));
  return 0;
}
