// Drives a fuzz target without libFuzzer: files named as arguments, or a bounded
// number of random inputs. Every input comes from records that are valid at the
// positions where scan() looks for them, with some bytes changed, bits flipped,
// parts moved or cut off. EPOCHFS_TEST_SEED repeats a run, EPOCHFS_FUZZ_RUNS sets
// its length.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "tests/unit/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace epochfs::testing {
namespace {

std::vector<std::byte> valid_segment(Random& random) {
  std::vector<std::byte> out(64);
  for (uint64_t n = random.below(6); n > 0; --n) {
    OwnedRecord owned;
    fill_random(static_cast<RecordType>(random.below(kLastRecordType + 1)), random, owned);
    owned.record.lsn = Lsn{(3 << 20) + out.size()};
    auto bytes = encoded(owned.record);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  out.resize(out.size() + random.below(100));
  return out;
}

void damage(std::vector<std::byte>& bytes, Random& random) {
  if (bytes.empty()) return;
  const size_t at = random.below(bytes.size());
  switch (random.below(5)) {
    case 0: bytes[at] ^= std::byte{1} << random.below(8); break;
    case 1: bytes[at] = static_cast<std::byte>(random.u64()); break;
    case 2: bytes.resize(at); break;
    case 3: bytes.erase(bytes.begin() + long(at)); break;
    case 4: {
      const size_t from = random.below(bytes.size());
      const size_t size = random.below(bytes.size() - std::max(at, from) + 1);
      std::memmove(bytes.data() + at, bytes.data() + from, size);
      break;
    }
  }
}

int run(const std::vector<std::byte>& bytes) {
  return LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

int run_random() {
  Random random;
  const char* given = std::getenv("EPOCHFS_FUZZ_RUNS");
  const uint64_t runs = given ? std::strtoull(given, nullptr, 10) : 50'000;
  for (uint64_t i = 0; i < runs; ++i) {
    auto bytes = valid_segment(random);
    for (uint64_t n = random.below(4); n > 0; --n) damage(bytes, random);
    run(bytes);
    // A record alone, for the codec.
    if (bytes.size() > 64) run({bytes.begin() + 64, bytes.end()});
  }
  std::printf("%llu inputs\n", static_cast<unsigned long long>(runs));
  return 0;
}

}  // namespace
}  // namespace epochfs::testing

int main(int argc, char** argv) {
  using namespace epochfs::testing;
  if (argc == 1) return run_random();
  for (int i = 1; i < argc; ++i) {
    const std::string bytes = read_all(argv[i]);
    auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
    run({begin, begin + bytes.size()});
  }
  return 0;
}
