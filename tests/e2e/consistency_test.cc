// Is every epoch that a target holds a cut in the order in which changes returned?
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "tests/e2e/chains.h"
#include "tests/e2e/disk.h"
#include "tests/e2e/files.h"
#include "tests/e2e/random.h"
#include "tests/e2e/replica.h"

namespace epochfs::testing {
namespace {

constexpr int kWriters = 4;

class ConsistencyTest : public TwoHosts {
 protected:
  // Of an epoch that is cut while the writers write.
  void check_an_epoch() {
    EXPECT_EQ(wrong_with_an_epoch(), "") << "epoch " << replica().status().recovery_epoch;
  }
  std::string wrong_with_an_epoch(Milliseconds patience = Host::kPatience) {
    const uint64_t since = writers_->clock().tick();
    replica().wait_for_epoch(replica().barrier(), patience);
    std::string wrong = replica().wrong_at_rest([&] {
      writers_->stop();
      return writers_->not_a_cut(copy(), since);
    });
    writers_->start();
    return wrong;
  }

  void kill_daemon_of(Host& victim) {
    victim.kill_daemon();
    writers_->let_them_write(300);
    victim.start_daemon();
  }
  void kill_mount() {
    writers_->let_them_write(300);
    a().kill_mount(data());
    writers_->stop();
    a().mount(data());
    writers_->resume();
    writers_->start();
  }

  void SetUp() override {
    TwoHosts::SetUp();
    if (IsSkipped()) return;
    random_ = std::make_unique<Random>();
    writers_ = std::make_unique<ChainWriters>(data(), *random_, kWriters);
  }
  void TearDown() override {
    if (writers_) writers_->stop();
    TwoHosts::TearDown();
  }

  std::unique_ptr<Random> random_;
  std::unique_ptr<ChainWriters> writers_;
};

TEST_F(ConsistencyTest, EveryEpochIsACutUnderLoad) {
  establish();
  writers_->start();
  for (int round = 0; round < 20 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    check_an_epoch();
  }
  writers_->stop();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ConsistencyTest, WithEitherDaemonKilled) {
  establish();
  writers_->start();
  for (int round = 0; round < 5 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    kill_daemon_of(random_->one_in(2) ? a() : b());
    check_an_epoch();
  }
  writers_->stop();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ConsistencyTest, WithTheMountKilled) {
  establish();
  writers_->start();
  for (int round = 0; round < 4 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    check_an_epoch();
    kill_mount();
  }
  check_an_epoch();
  writers_->stop();
  EXPECT_TRUE(replica().becomes_equal());
}

// Source and target on file systems of their own.
class ConsistencyOn : public ConsistencyTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (auto why = Disk::why_not(std::string("mkfs.") + GetParam())) GTEST_SKIP() << *why;
    ConsistencyTest::SetUp();
  }
  std::string make_directory_on(Host& host, const std::string& name) override {
    const auto& disk = disks_.emplace_back(std::make_unique<Disk>(
        host.folder(), "disk", kDiskBytes,
        std::vector<std::string>{std::string("mkfs.") + GetParam(), "-q"}, ""));
    const std::string path = disk->path() + "/" + name;
    make_directory(path);
    return path;
  }

  static constexpr uint64_t kDiskBytes = 600 << 20;
  std::vector<std::unique_ptr<Disk>> disks_;
};

TEST_P(ConsistencyOn, EveryEpochIsACutWhoeverIsKilled) {
  establish();
  writers_->start();
  for (int round = 0; round < 6 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    switch (random_->below(4)) {
      case 0: kill_daemon_of(a()); break;
      case 1: kill_daemon_of(b()); break;
      case 2: kill_mount(); break;
      default: break;
    }
    check_an_epoch();
  }
  writers_->stop();
  EXPECT_TRUE(replica().becomes_equal());
}

INSTANTIATE_TEST_SUITE_P(Each, ConsistencyOn, ::testing::Values("ext4", "xfs", "btrfs"),
                         [](const auto& info) { return std::string(info.param); });

// The proof that the check can fail: one file from an earlier state in a later one.
TEST_F(ConsistencyTest, AMixOfTwoStatesIsNoCut) {
  using std::filesystem::copy_options;
  const std::string earlier = a().make_directory("earlier");
  auto make_steps = [&] {
    for (int i = 0; i < 3; ++i) {
      for (auto& chain : writers_->chains()) ASSERT_EQ(chain->step(writers_->clock(), data()), 0);
    }
  };
  make_steps();
  const uint64_t since = writers_->clock().tick();
  std::filesystem::copy(data(), earlier, copy_options::recursive);
  make_steps();
  EXPECT_EQ(writers_->not_a_cut(data(), writers_->clock().tick()), "");
  for (const char* name : {"append-1", "overwrite-2", "replace-0", "grow-3"}) {
    const std::string here = data() + "/" + name, aside = a().folder() + "/aside";
    std::filesystem::rename(here, aside);
    std::filesystem::copy(earlier + "/" + name, here, copy_options::recursive);
    EXPECT_NE(writers_->not_a_cut(data(), since), "") << name;
    std::filesystem::remove_all(here);
    EXPECT_NE(writers_->not_a_cut(data(), since), "") << name << ", gone";
    std::filesystem::rename(aside, here);
    EXPECT_EQ(writers_->not_a_cut(data(), since), "") << name;
  }
}

// ---- the proof that this can fail ----

// A program that was built without what makes epochs cuts; the environment names it.
class BrokenProgram : public ConsistencyTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    const char* broken = std::getenv(GetParam());
    if (!broken) GTEST_SKIP() << GetParam() << " names no program";
    program_ = std::getenv("EPOCHFS_PROGRAM");
    ::setenv("EPOCHFS_PROGRAM", broken, 1);
    ConsistencyTest::SetUp();
  }
  void TearDown() override {
    ConsistencyTest::TearDown();
    if (program_) ::setenv("EPOCHFS_PROGRAM", program_->c_str(), 1);
  }

  std::optional<std::string> program_;
};

TEST_P(BrokenProgram, IsFoundOut) {
  establish();
  writers_->start();
  std::string wrong;
  int round = 0;
  for (; round < 300 && wrong.empty(); ++round) {
    writers_->let_them_write(100 + random_->below(300));
    try {
      wrong = wrong_with_an_epoch(Milliseconds(20'000));
    } catch (const Failure&) {
      // What makes no tree at all, the target does not even take.
      wrong = replica().status().last_error;
      if (wrong.empty()) throw;
    }
  }
  EXPECT_NE(wrong, "") << "in " << round << " epochs";
  fmt::print("found out at epoch {} of this test: {}\n", round, wrong);
}

INSTANTIATE_TEST_SUITE_P(Of, BrokenProgram,
                         ::testing::Values("EPOCHFS_WITHOUT_BARRIER", "EPOCHFS_WITHOUT_PREIMAGES"),
                         [](const auto& info) { return std::string(info.param + 8); });

}  // namespace
}  // namespace epochfs::testing
