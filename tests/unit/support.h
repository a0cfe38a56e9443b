// Support: what do the tests of several subjects share? Temporary folders, seeded
// randomness that can be repeated, volumes to write to, and Result<T> in
// expectations. Nothing here is about one subject.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "journal/log/record.h"
#include "journal/volume/volume.h"

#define ASSERT_OK(expression)                                        \
  do {                                                               \
    auto&& outcome_ = (expression);                                  \
    ASSERT_TRUE(outcome_.has_value()) << outcome_.error().message(); \
  } while (0)
#define EXPECT_OK(expression)                                        \
  do {                                                               \
    auto&& outcome_ = (expression);                                  \
    EXPECT_TRUE(outcome_.has_value()) << outcome_.error().message(); \
  } while (0)

namespace epochfs::testing {

// The value, or the end of the test program with the error.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "must succeed: %s\n", result.error().message().c_str());
    std::abort();
  }
  return *std::move(result);
}
inline void must(Result<void> result) {
  if (!result) {
    std::fprintf(stderr, "must succeed: %s\n", result.error().message().c_str());
    std::abort();
  }
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* below = std::getenv("TMPDIR");
    std::string path = std::string(below && *below ? below : "/var/tmp") + "/epochfs-test.XXXXXX";
    if (!::mkdtemp(path.data())) {
      std::perror(path.c_str());
      std::abort();
    }
    path_ = path;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Randomness that a failure can be repeated with: its seed is printed, and taken
// from EPOCHFS_TEST_SEED when that is set.
class Random {
 public:
  Random() {
    const char* given = std::getenv("EPOCHFS_TEST_SEED");
    seed_ = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("repeat with EPOCHFS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed_));
    engine_.seed(seed_);
  }
  // For one of many rounds, so that the first may be the one that failed.
  explicit Random(uint64_t seed) : seed_(seed), engine_(seed) {}
  uint64_t seed() const { return seed_; }
  uint64_t u64() { return engine_(); }
  // Uniform in [0, n).
  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(engine_); }
  bool one_in(uint64_t n) { return below(n) == 0; }
  // Any bytes but NUL and '/', as in a file name.
  std::string name(size_t size) {
    std::string out(size, 'x');
    for (char& c : out) {
      do c = static_cast<char>(1 + below(255));
      while (c == '/');
    }
    return out;
  }
  FileHandle handle(size_t size) {
    FileHandle h;
    h.type = static_cast<int32_t>(u64());
    h.size = static_cast<uint8_t>(size);
    for (size_t i = 0; i < size; ++i) h.bytes[i] = static_cast<uint8_t>(u64());
    return h;
  }
  FileId id() { return {u64(), u64()}; }

 private:
  uint64_t seed_ = 0;
  std::mt19937_64 engine_;
};

// Which operands a type has: FORMAT.md's table, told once more.
struct OperandsOf {
  bool handle = false, parent = false, parent2 = false, other = false, range = false, mode = false,
       xattr_name = false;
};
inline OperandsOf operands_of(journal::RecordType type) {
  switch (type) {
    case journal::RecordType::kPadding:
    case journal::RecordType::kSeal: return {};
    case journal::RecordType::kCreate:
    case journal::RecordType::kMakeDirectory:
    case journal::RecordType::kMakeNode: return {.handle = true, .parent = true, .mode = true};
    case journal::RecordType::kSymlink:
    case journal::RecordType::kLink:
    case journal::RecordType::kUncertainName: return {.handle = true, .parent = true};
    case journal::RecordType::kUnlink:
    case journal::RecordType::kRemoveDirectory: return {.parent = true};
    case journal::RecordType::kRename:
      return {.handle = true, .parent = true, .parent2 = true, .other = true, .mode = true};
    case journal::RecordType::kWrite:
    case journal::RecordType::kTruncate: return {.handle = true, .range = true};
    case journal::RecordType::kAllocate: return {.handle = true, .range = true, .mode = true};
    case journal::RecordType::kSetAttributes:
    case journal::RecordType::kTemporary: return {.handle = true, .mode = true};
    case journal::RecordType::kSetXattr:
    case journal::RecordType::kRemoveXattr: return {.handle = true, .xattr_name = true};
    case journal::RecordType::kGap: return {.mode = true};
  }
  return {};
}

// A record with random operands, and what its views point into.
struct OwnedRecord {
  journal::Record record;
  std::string name, name2;
};
inline void fill_random(journal::RecordType type, Random& random, OwnedRecord& out) {
  auto size = [&](size_t max) { return random.one_in(4) ? max : random.below(max + 1); };
  journal::Record& r = out.record = journal::Record{};
  r.type = type;
  r.time_ns = random.u64();
  r.epoch = EpochId{random.u64()};
  r.caller = {uint32_t(random.u64()), uint32_t(random.u64()), uint32_t(random.u64())};
  r.file = random.id();
  const OperandsOf has = operands_of(type);
  out.name = random.name(size(kMaxNameBytes));
  out.name2 = random.name(size(kMaxNameBytes));
  if (has.handle) r.handle = random.handle(size(FileHandle::kMaxBytes));
  if (has.parent) {
    r.parent = random.id();
    r.parent_handle = random.handle(size(FileHandle::kMaxBytes));
    r.name = out.name;
  }
  if (has.parent2) {
    r.parent2 = random.id();
    r.parent2_handle = random.handle(size(FileHandle::kMaxBytes));
    r.name2 = out.name2;
  }
  if (has.other) r.other = random.id();
  if (has.range) r.range = {random.u64(), random.u64()};
  if (has.mode) r.mode = uint32_t(random.u64());
  if (has.xattr_name) r.name = out.name;
}

inline std::vector<std::byte> encoded(const journal::Record& r) {
  std::vector<std::byte> out(journal::encoded_size(r));
  encode(r, out);
  return out;
}

// Writes the checksum that FORMAT.md asks for: of all that follows the field,
// seeded with the eight bytes before it.
inline void reseal(std::span<std::byte> record) {
  uint64_t head;
  std::memcpy(&head, record.data(), sizeof head);
  uint64_t sum = XXH3_64bits_withSeed(record.data() + 16, record.size() - 16, head);
  std::memcpy(record.data() + 8, &sum, sizeof sum);
}

inline journal::VolumeInfo volume_info(uint64_t segment_bytes = 64 << 10) {
  journal::VolumeInfo info;
  info.lineage = Uuid::random();
  info.identity = {.filesystem = 7, .root = {2, 1'700'000'000'000'000'000}};
  info.created_ns = 1'700'000'000'000'000'001;
  info.segment_bytes = segment_bytes;
  info.backing_path = "/srv/data";
  return info;
}

inline journal::Volume make_volume(const TemporaryDirectory& in,
                                   uint64_t segment_bytes = 64 << 10) {
  return must(
      journal::Volume::create(Storage::system(), in / "volume", volume_info(segment_bytes)));
}

inline std::string read_all(const std::string& path) {
  std::string out;
  FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) return out;
  char buffer[1 << 16];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, file)) out.append(buffer, n);
  std::fclose(file);
  return out;
}

inline void write_all(const std::string& path, std::string_view bytes) {
  FILE* file = std::fopen(path.c_str(), "wb");
  if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() ||
      std::fclose(file) != 0) {
    std::perror(path.c_str());
    std::abort();
  }
}

// Overwrites bytes of a file in place.
inline void poke(const std::string& path, uint64_t offset, std::string_view bytes) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  must(pwrite_full(fd.get(), bytes.data(), bytes.size(), offset, path));
}

}  // namespace epochfs::testing
