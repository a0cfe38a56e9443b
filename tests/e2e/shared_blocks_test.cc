// Pre-images that share blocks with the file, on file systems that can: is a sealed epoch still
// exact, and is a long pre-image made without a copy?
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tests/e2e/disk.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/fs/recording/pins_support.h"

namespace epochfs::testing {
namespace {

// A disk on which everything temporary lies, while it lives.
class OnDisk {
 protected:
  explicit OnDisk(const std::string& type) {
    why_not_ = Disk::why_not("mkfs." + type);
    if (why_not_) return;
    disk_.emplace(folder_.path(), type, 600 << 20, std::vector<std::string>{"mkfs." + type, "-q"},
                  "");
    ::setenv("TMPDIR", disk_->path().c_str(), 1);
  }
  ~OnDisk() { ::unsetenv("TMPDIR"); }

  std::optional<std::string> why_not_;

 private:
  TemporaryDirectory folder_;
  std::optional<Disk> disk_;
};

class SharedBlocksTest : private OnDisk,
                         public PinsTest,
                         public ::testing::WithParamInterface<const char*> {
 protected:
  SharedBlocksTest() : OnDisk(GetParam()) {}
  void SetUp() override {
    if (why_not_) GTEST_SKIP() << *why_not_;
    PinsTest::SetUp();
    pins_->restore({}, {}, EpochId{0});
  }
  static std::string random_bytes(Random& random, size_t size) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = char(random.u64());
    return bytes;
  }
  std::string make_file(Random& random, uint64_t mib) {
    create("a", "");
    std::string all;
    for (uint64_t at = 0; at < mib << 20; at += 1 << 20) {
      const std::string part = random_bytes(random, 1 << 20);
      write("a", at, part);
      all += part;
    }
    return all;
  }
  void make_durable() {
    UniqueFd fd(::openat(dir_.get(), "a", O_RDONLY));
    ASSERT_EQ(::fsync(fd.get()), 0);
  }
};

TEST_P(SharedBlocksTest, AFileOfAnySizeMayBeCutShort) {
  Random random;
  const std::string held = make_file(random, 2 * fs::kMaxSavedByOneMutation >> 20);
  make_durable();  // writing it back would take too long then
  const fs::Touched file = touch("a", kNone);
  auto pin = seal_and_pin(0, 1);
  truncate("a", 5000);
  EXPECT_FALSE(pin->given_up());
  auto reader = reader_of(*pin);
  EXPECT_TRUE(at_seal(*reader, file) == held);
  pins_->unpin(pin);
}

TEST_P(SharedBlocksTest, WhateverIsOverwrittenIsExact) {
  Random random;
  for (bool dirty : {true, false}) {
    if (!dirty) unlink("a");
    const std::string held = make_file(random, 24);
    if (!dirty) make_durable();
    const fs::Touched file = touch("a", kNone);
    auto pin = seal_and_pin(0, dirty ? 1 : 2);
    auto reader = reader_of(*pin);
    for (int n = 0; n < 60; ++n) {
      const uint64_t at = random.below(held.size() - 1), most = held.size() - at;
      const size_t size = size_t(std::min<uint64_t>(most, random.one_in(2) ? 2 << 20 : 10'000));
      if (random.one_in(8)) {
        punch("a", at, size);
      } else {
        write("a", at, random_bytes(random, 1 + random.below(size)));
      }
      if (n % 10 == 0) {
        ASSERT_TRUE(at_seal(*reader, file) == held) << n;
      }
    }
    EXPECT_TRUE(at_seal(*reader, file) == held);
    pins_->unpin(pin);
  }
}

// An application that has blocks can overwrite them, however full the disk is.
TEST_P(SharedBlocksTest, OverwritingTakesNoMoreRoomThanItDid) {
  Random random;
  make_file(random, 4);
  make_durable();
  auto shared = [&] {
    UniqueFd fd(::openat(dir_.get(), "a", O_RDONLY));
    std::vector<char> room(sizeof(fiemap) + 256 * sizeof(fiemap_extent));
    auto* map = reinterpret_cast<fiemap*>(room.data());
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_extent_count = 256;
    EXPECT_EQ(::ioctl(fd.get(), FS_IOC_FIEMAP, map), 0);
    return std::any_of(map->fm_extents, map->fm_extents + map->fm_mapped_extents,
                       [](const fiemap_extent& e) { return e.fe_flags & FIEMAP_EXTENT_SHARED; });
  };
  auto pin = seal_and_pin(0, 1);
  fs::Touched over = touch("a", {0, 1 << 20});
  pins_->save(over);
  EXPECT_FALSE(shared());
  over.data = {1 << 20, ByteRange::kEndOfFile};
  over.frees = true;
  pins_->save(over);
  EXPECT_TRUE(shared());
  pins_->unpin(pin);
}

INSTANTIATE_TEST_SUITE_P(On, SharedBlocksTest, ::testing::Values("xfs", "btrfs"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace epochfs::testing
