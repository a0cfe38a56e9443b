// Do very large files, very many, very deep directories and very odd names arrive, too?
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <climits>

#include "tests/e2e/odd_trees.h"
#include "tests/e2e/operation.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/random.h"

namespace epochfs::testing {
namespace {

constexpr uint64_t kGigabyte = 1 << 30;

class ExtremesTest : public TwoHosts {
 protected:
  void SetUp() override {
    TwoHosts::SetUp();
    if (!IsSkipped()) establish();
  }
  bool room_for(uint64_t bytes) {
    struct statvfs fs;
    return ::statvfs(data().c_str(), &fs) == 0 && uint64_t(fs.f_bavail) * fs.f_bsize > bytes;
  }
};

TEST_F(ExtremesTest, AWriteOfTwoGigabytes) {
  if (!room_for(5 * kGigabyte)) GTEST_SKIP() << "less than 5 GB are free in " << data();
  write_large_file(data() + "/large", 2 * kGigabyte, 1);
  EXPECT_TRUE(replica().becomes_equal());
}

// One call, as large as the kernel takes; sizes and offsets here do not fit into 32 bits.
TEST_F(ExtremesTest, ASparseFileOfATerabyteWithDataFarApart) {
  UniqueFd fd(::open((data() + "/sparse").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_TRUE(fd);
  for (uint64_t offset : {uint64_t(0), 2 * kGigabyte - 1, 4 * kGigabyte - 5, 1000 * kGigabyte}) {
    const std::string bytes = bytes_of(offset + 1, 100'000);
    ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), off_t(offset)), ssize_t(bytes.size()));
  }
  EXPECT_TRUE(replica().becomes_equal());
  // A little change of it is a little change.
  ASSERT_EQ(::pwrite(fd.get(), "changed", 7, off_t(3 * kGigabyte)), 7);
  const uint64_t sent = replica().status().bytes_sent;
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_LT(replica().status().bytes_sent - sent, 1u << 20);
}

TEST_F(ExtremesTest, OneWriteCallOfSixtyFourMegabytes) {
  UniqueFd fd(::open((data() + "/file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  const std::string bytes = bytes_of(5, 64 << 20);
  ASSERT_EQ(::write(fd.get(), bytes.data(), bytes.size()), ssize_t(bytes.size()));
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ExtremesTest, ADirectoryOfAHundredThousandFiles) {
  constexpr int kFiles = 100'000;
  make_directory(data() + "/many");
  UniqueFd many(::open((data() + "/many").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < kFiles; ++i) {
    UniqueFd fd(::openat(many.get(), fmt::format("file-{}", i).c_str(),
                         O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd) << i;
  }
  EXPECT_TRUE(replica().becomes_equal());

  // Its new name is one small message, and so is one file more.
  ASSERT_EQ(::rename((data() + "/many").c_str(), (data() + "/renamed").c_str()), 0);
  write_file(data() + "/renamed/one more", "file");
  const ReplicaStatus before = replica().status();
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_LT(replica().status().bytes_sent - before.bytes_sent, 64u << 10);
  EXPECT_LT(replica().status().files_sent - before.files_sent, 100u);
}

TEST_F(ExtremesTest, APathOfPathMax) {
  // Both below PATH_MAX as seen from the root, and beyond it from "/".
  constexpr size_t kNames = 255;
  const size_t levels = (PATH_MAX - 1) / (kNames + 1);
  UniqueFd long_names = make_deep_directory(data(), std::string(kNames, 'l'), levels);
  write_file_at(long_names.get(), "file", "at the end of a long path");
  make_directory(data() + "/short");
  UniqueFd deep = make_deep_directory(data() + "/short", "d", (PATH_MAX - 16) / 2);
  write_file_at(deep.get(), "file", "in the depth");
  EXPECT_TRUE(replica().becomes_equal());

  write_file_at(deep.get(), "file", "changed in the depth");
  write_file_at(long_names.get(), "other", "new");
  ASSERT_EQ(::rename((data() + "/short").c_str(), (data() + "/renamed").c_str()), 0);
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ExtremesTest, APathLongerThanPathMax) {
  UniqueFd deep = make_deep_directory(data(), std::string(200, 'd'), 40);
  write_file_at(deep.get(), "file", "beyond");
  EXPECT_TRUE(replica().becomes_equal());
  write_file_at(deep.get(), "file", "changed beyond");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ExtremesTest, EveryByteThatANameCanHold) {
  for (int c = 1; c < 256; ++c) {
    if (c == '/' || c == '.') continue;
    write_file(data() + "/" + char(c), std::string(1, char(c)));
    write_file(data() + "/in a name: " + char(c), "");
  }
  make_directory(data() + "/directory with a\nnewline and \xff");
  write_file(data() + "/directory with a\nnewline and \xff/\xfe\n", "below");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ExtremesTest, ThousandsOfLinksToOneFile) {
  write_file(data() + "/file", "once");
  for (int i = 0; i < 5000; ++i) {
    ASSERT_EQ(::link((data() + "/file").c_str(), fmt::format("{}/link-{}", data(), i).c_str()), 0);
  }
  EXPECT_TRUE(replica().becomes_equal());
  append_file(data() + "/link-77", " more");
  for (int i = 0; i < 5000; i += 2) {
    ASSERT_EQ(::unlink(fmt::format("{}/link-{}", data(), i).c_str()), 0);
  }
  EXPECT_TRUE(replica().becomes_equal());
}

}  // namespace
}  // namespace epochfs::testing
