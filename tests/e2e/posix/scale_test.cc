// How many files can applications have open, or known to the kernel, at a time? How many
// descriptors does that cost the mount's process?
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr size_t kOpenFiles = 20'500;
constexpr size_t kKnownFiles = 200'000;
constexpr size_t kCache = 8192;    // descriptors that the mount keeps for what is in use
constexpr size_t kOverhead = 300;  // its journal, sockets, threads

size_t descriptors_of(pid_t pid) {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid))) {
    ++n;
  }
  return n;
}

// The soft limit, as the process has set it itself.
size_t limit_of(pid_t pid) {
  std::ifstream in(fmt::format("/proc/{}/limits", pid));
  for (std::string line; std::getline(in, line);) {
    size_t soft = 0;
    if (std::sscanf(line.c_str(), "Max open files %zu", &soft) == 1) return soft;
  }
  return 0;
}

void raise_limit() {
  rlimit limit{kOpenFiles * 2, kOpenFiles * 2};
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

class Scale : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    host_ = std::make_unique<Host>("scale");
    data_ = host_->make_directory("data");
  }

  std::unique_ptr<Host> host_;
  std::string data_;
};

TEST_F(Scale, ManyOpenFiles) {
  raise_limit();
  host_->mount(data_);
  const pid_t mount = host_->mount_process(data_);
  // On a machine that allows no more, as many as there are.
  const size_t limit = std::min(limit_of(mount), limit_of(::getpid()));
  const size_t count = std::min(kOpenFiles, limit - limit / 8 - kOverhead);
  std::printf("%zu open files; the limit is %zu\n", count, limit);
  const size_t before = descriptors_of(mount);
  {
    std::vector<UniqueFd> files;
    for (size_t i = 0; i < count; ++i) {
      files.emplace_back(
          ::open(fmt::format("{}/{}", data_, i).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
      ASSERT_TRUE(files.back()) << i << ": " << std::strerror(errno);
    }
    EXPECT_LE(descriptors_of(mount), count + kCache + kOverhead);
    for (size_t i = 0; i < count; i += 7) {
      const std::string text = std::to_string(i);
      ASSERT_EQ(::pwrite(files[i].get(), text.data(), text.size(), 0), ssize_t(text.size()));
    }
    for (size_t i = 0; i < count; i += 7) {
      ASSERT_EQ(read_whole_file(fmt::format("{}/{}", data_, i)), std::to_string(i));
    }
  }
  eventually("the descriptors are given back",
             [&] { return descriptors_of(mount) <= before + kCache + kOverhead; });
  host_->unmount(data_);
}

// Where applications want more than the mount may have, they are refused, and nothing else.
TEST_F(Scale, MoreOpenFilesThanThereCanBe) {
  raise_limit();
  host_->mount(data_);
  const pid_t mount = host_->mount_process(data_);
  const rlimit few{1000, 1000};
  ASSERT_EQ(::prlimit(mount, RLIMIT_NOFILE, &few, nullptr), 0);
  write_file(data_ + "/before", "content");
  {
    std::vector<UniqueFd> files;
    for (int error = 0; error == 0;) {
      ASSERT_LT(files.size(), 1000u);
      files.emplace_back(::open((data_ + "/before").c_str(), O_RDWR | O_CLOEXEC));
      if (!files.back()) error = errno;
      EXPECT_TRUE(error == 0 || error == ENFILE || error == EMFILE) << std::strerror(error);
    }
    EXPECT_GT(files.size(), 500u);
    files.pop_back();
    ASSERT_EQ(::pwrite(files.back().get(), "written", 7, 0), 7);
  }
  eventually("files can be opened again", [&] {
    return bool(UniqueFd(::open((data_ + "/before").c_str(), O_RDONLY | O_CLOEXEC)));
  });
  EXPECT_EQ(read_whole_file(data_ + "/before"), "written");
  host_->unmount(data_);
}

TEST_F(Scale, ManyKnownFiles) {
  // Beneath, which is faster.
  for (size_t i = 0; i < kKnownFiles; ++i) {
    const std::string directory = fmt::format("{}/{}", data_, i / 10'000);
    if (i % 10'000 == 0) make_directory(directory);
    if (::mknod(fmt::format("{}/{}", directory, i).c_str(), S_IFREG | 0644, 0) != 0) {
      throw_errno("make files");
    }
  }
  host_->mount(data_);
  const pid_t mount = host_->mount_process(data_);
  size_t known = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(data_)) {
    struct stat st;
    ASSERT_EQ(::lstat(entry.path().c_str(), &st), 0) << entry.path();
    known += S_ISREG(st.st_mode);
  }
  EXPECT_EQ(known, kKnownFiles);
  EXPECT_LE(descriptors_of(mount), kCache + kOverhead);
  EXPECT_LE(descriptors_of(mount), limit_of(mount) / 8 + kOverhead);
  // All of them still answer, those without a descriptor too.
  for (size_t i = 0; i < kKnownFiles; i += 991) {
    const std::string path = fmt::format("{}/{}/{}", data_, i / 10'000, i);
    ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
    write_file(path, path);
    ASSERT_EQ(read_whole_file(path), path);
  }
  EXPECT_LE(descriptors_of(mount), kCache + kOverhead);
  host_->unmount(data_);
}

}  // namespace
}  // namespace epochfs::testing
