// Do the tests' own tools notice what they are meant to notice? No mount, no daemon.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tests/e2e/host.h"
#include "tests/e2e/mutator.h"
#include "tests/e2e/odd_trees.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

class ToolsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "owners and device nodes need root";
    host_ = std::make_unique<Host>("tools");
  }
  std::string directory(const std::string& name) { return host_->make_directory(name); }

 private:
  std::unique_ptr<Host> host_;
};

TEST_F(ToolsTest, TheModelAgreesWithAPlainDirectory) {
  Random random;
  for (int i = 0; i < 10; ++i) {
    const std::string plain = directory("plain-" + std::to_string(i));
    Mutator mutator(plain, random, Mutator::Preallocation::kSometimes);
    for (int round = 0; round < 4; ++round) {
      mutator.run(500);
      ASSERT_TRUE(
          same_tree(mutator.model().snapshot(), snapshot(plain), {.times = false, .holes = false}));
    }
  }
}

TEST_F(ToolsTest, ACopyOfAnOddTreeIsTheSame) {
  const std::string one = directory("one"), two = directory("two");
  make_odd_tree(one + "/odd");
  const Outcome copied =
      run({.argv = {"cp", "-a", "--sparse=always", one + "/.", two}}, Host::kPatience);
  ASSERT_EQ(copied.status, 0) << copied.err;
  EXPECT_TRUE(same_tree(snapshot(one), snapshot(two)));
}

// ---- every kind of difference is seen ----

struct Difference {
  const char* name;
  void (*make)(const std::string& path);  // of a file with 64 KiB of data
  const char* said;
};

void PrintTo(const Difference& difference, std::ostream* out) { *out << difference.name; }

void punch(const std::string& path, off_t offset, off_t length) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length), 0);
}

const Difference kDifferences[] = {
    {"Missing", [](const std::string& path) { ::unlink(path.c_str()); }, "is missing"},
    {"Extra", [](const std::string& path) { write_file(path + "2", ""); }, "should not be"},
    {"Type",
     [](const std::string& path) {
       ::unlink(path.c_str());
       make_directory(path);
     },
     "type"},
    {"Mode", [](const std::string& path) { ::chmod(path.c_str(), 0640); }, "mode"},
    {"Owner", [](const std::string& path) { ::chown(path.c_str(), 1, 0); }, "owner"},
    {"Group", [](const std::string& path) { ::chown(path.c_str(), 0, 1); }, "group"},
    {"Size", [](const std::string& path) { ::truncate(path.c_str(), 70'000); }, "size"},
    {"Links", [](const std::string& path) { ::link(path.c_str(), (path + "2").c_str()); },
     "link count"},
    {"Time",
     [](const std::string& path) {
       const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000'000, 1}};
       ::utimensat(AT_FDCWD, path.c_str(), times, 0);
     },
     "mtime"},
    {"Xattr", [](const std::string& path) { ::setxattr(path.c_str(), "user.x", "1", 1, 0); },
     "xattr user.x is there"},
    {"Content",
     [](const std::string& path) {
       UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
       ASSERT_EQ(::pwrite(fd.get(), "!", 1, 40'000), 1);
     },
     "hash of contents"},
    {"Hole", [](const std::string& path) { punch(path, 65'536 + 16'384, 16'384); }, "a hole found"},
};

class DifferenceTest : public ToolsTest, public ::testing::WithParamInterface<Difference> {};

TEST_P(DifferenceTest, IsSeen) {
  const std::string one = directory("one"), two = directory("two");
  for (const std::string& directory : {one, two}) {
    // Data, then zeros that are stored.
    write_file(directory + "/file", bytes_of(1, 65'536) + std::string(65'536, '\0'));
    const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000'000, 0}};
    ::utimensat(AT_FDCWD, (directory + "/file").c_str(), times, 0);
    ::utimensat(AT_FDCWD, directory.c_str(), times, 0);
  }
  ASSERT_TRUE(same_tree(snapshot(one), snapshot(two)));
  GetParam().make(two + "/file");
  std::string said;
  for (const std::string& line : differences(snapshot(one), snapshot(two))) said += line + "\n";
  EXPECT_NE(said.find(GetParam().said), std::string::npos) << said;
}

INSTANTIATE_TEST_SUITE_P(Every, DifferenceTest, ::testing::ValuesIn(kDifferences),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(ToolsTest, LinksOfOtherFilesAreADifference) {
  const std::string one = directory("one"), two = directory("two");
  for (const std::string& directory : {one, two}) {
    write_file(directory + "/a", "same");
    write_file(directory + "/b", "same");
  }
  // The same names and link counts, but other pairs.
  ASSERT_EQ(::link((one + "/a").c_str(), (one + "/x").c_str()), 0);
  ASSERT_EQ(::link((one + "/b").c_str(), (one + "/y").c_str()), 0);
  ASSERT_EQ(::link((two + "/b").c_str(), (two + "/x").c_str()), 0);
  ASSERT_EQ(::link((two + "/a").c_str(), (two + "/y").c_str()), 0);
  EXPECT_FALSE(same_tree(snapshot(one), snapshot(two), {.times = false}));
}

// ---- processes ----

TEST(ProcessTest, RunTellsStatusAndOutput) {
  const Outcome outcome =
      run({.argv = {"sh", "-c", "echo out; echo err >&2; exit 7"}}, Milliseconds(10'000));
  EXPECT_EQ(outcome.status, 7);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
}

TEST(ProcessTest, RunDoesNotWaitForWhatStaysBehind) {
  const Outcome outcome =
      run({.argv = {"sh", "-c", "sleep 5 & echo started"}}, Milliseconds(4'000));
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.out, "started\n");
}

TEST(ProcessTest, RunEndsWhatTakesTooLong) {
  const Outcome outcome = run({.argv = {"sleep", "60"}}, Milliseconds(50));
  EXPECT_TRUE(outcome.timed_out);
  EXPECT_EQ(outcome.status, 128 + SIGKILL);
}

TEST(ProcessTest, BackgroundIsKilledWithTheObject) {
  pid_t pid;
  {
    Background process({.argv = {"sh", "-c", "echo here; exec sleep 60"}});
    pid = process.pid();
    EXPECT_EQ(process.wait_for_line("her", Milliseconds(10'000)), "here");
    EXPECT_TRUE(process.running());
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(ProcessTest, WaitForLineEndsWithTheProcess) {
  Background process({.argv = {"sh", "-c", "echo something"}});
  EXPECT_EQ(process.wait_for_line("else", Milliseconds(10'000)), std::nullopt);
  EXPECT_EQ(process.wait(Milliseconds(10'000)), 0);
}

}  // namespace
}  // namespace epochfs::testing
