// Is every epoch that a target holds a cut in the order in which changes returned?
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "tests/e2e/chains.h"
#include "tests/e2e/disk.h"
#include "tests/e2e/replica.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr int kWriters = 8;

// Epochs are cut when this test asks for one, so that it sees each that the target holds.
class ConsistencyTest : public TwoHosts {
 protected:
  // Of the next epoch, which is cut while the writers write.
  void check_an_epoch() { EXPECT_EQ(wrong_with_an_epoch(), ""); }
  std::string wrong_with_an_epoch(Milliseconds patience = Host::kPatience) {
    const ReplicaStatus before = replica().status();
    CutTime time{.asked = now_ns()};
    replica().wait_until_idle(patience);
    const ReplicaStatus held = replica().status();
    time.at = held.recovery_time_ns;
    std::string wrong = writers_->not_a_cut(copy(), time);
    // And nobody moved it while it was read.
    const ReplicaStatus after = replica().status();
    EXPECT_EQ(after.recovery_epoch, held.recovery_epoch);
    if (nobody_was_killed_) {
      EXPECT_EQ(after.epochs_sent, before.epochs_sent + 1);
    }
    return wrong.empty() ? "" : fmt::format("epoch {}: {}", held.recovery_epoch, wrong);
  }

  void establish(const Arguments& mount = {}) {
    how_mounted_ = mount;
    start_daemons();
    a().mount(data(), how_mounted_);
    replica().establish({"--interval", "86400"});
    replica().wait_until_idle();
  }

  // In the middle of a transfer, perhaps.
  void ask_for_an_epoch() {
    a().must({"relationship", "replicate", replica().id()});
    writers_->let_them_write(random_->below(300));
  }
  void kill_daemon_of(Host& victim) {
    nobody_was_killed_ = false;
    ask_for_an_epoch();
    victim.kill_daemon();
    writers_->let_them_write(300);
    victim.start_daemon();
  }
  void kill_mount() {
    nobody_was_killed_ = false;
    ask_for_an_epoch();
    a().kill_mount(data());
    a().mount(data(), how_mounted_);
    writers_->stop_and_resume();
    writers_->start();
  }

  void SetUp() override {
    TwoHosts::SetUp();
    if (IsSkipped()) return;
    random_ = std::make_unique<Random>();
    writers_ = std::make_unique<ChainWriters>(data(), *random_, kWriters);
  }
  void TearDown() override {
    writers_.reset();
    TwoHosts::TearDown();
  }
  void finish(const Strictness& how = {}) {
    writers_->stop();
    replica().wait_until_idle();
    EXPECT_TRUE(same_tree(snapshot(data()), snapshot(copy()), how));
    // All of it was told by the journal. Empty: since the daemon was started.
    const std::string compared = replica().status().compared_reason;
    EXPECT_TRUE(compared.empty() || compared == "it is the first copy") << compared;
  }

  std::unique_ptr<Random> random_;
  std::unique_ptr<ChainWriters> writers_;
  bool nobody_was_killed_ = true;
  Arguments how_mounted_;
};

TEST_F(ConsistencyTest, EveryEpochIsACutUnderLoad) {
  establish();
  writers_->start();
  for (int round = 0; round < 40 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    check_an_epoch();
  }
  finish();
}

// What the kernel gathers may come later; what was synced, or is no data, may not.
TEST_F(ConsistencyTest, EveryEpochIsACutWhereTheKernelGathersWrites) {
  writers_ = std::make_unique<ChainWriters>(data(), *random_, kWriters, true);
  establish({"-o", "writeback"});
  writers_->start();
  for (int round = 0; round < 20 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    check_an_epoch();
  }
  finish({.holes = false});  // the kernel tells of none in what it gathers
}

TEST_F(ConsistencyTest, WithEitherDaemonKilled) {
  establish();
  writers_->start();
  for (int round = 0; round < 6 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    kill_daemon_of(round % 2 ? a() : b());
    check_an_epoch();
  }
  finish();
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
  finish();
}

// Source, journal and target on file systems of their own kind.
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

  static constexpr uint64_t kDiskBytes = 1 << 30;
  std::vector<std::unique_ptr<Disk>> disks_;
};

TEST_P(ConsistencyOn, EveryEpochIsACutWhoeverIsKilled) {
  // Beside the data, so that pre-images can share its blocks.
  establish({"--journal", disks_.front()->path() + "/journal"});
  writers_->start();
  for (int round = 0; round < 9 && !HasFailure(); ++round) {
    writers_->let_them_write(300 + random_->below(1000));
    switch (round % 3) {
      case 0: kill_daemon_of(a()); break;
      case 1: kill_daemon_of(b()); break;
      case 2: kill_mount(); break;
    }
    check_an_epoch();
  }
  finish();
}

INSTANTIATE_TEST_SUITE_P(Each, ConsistencyOn, ::testing::Values("ext4", "xfs", "btrfs"),
                         [](const auto& info) { return std::string(info.param); });

// The proof that the check can fail: one file from an earlier state in a later one.
TEST_F(ConsistencyTest, AMixOfTwoStatesIsNoCut) {
  const std::string earlier = a().folder() + "/earlier", aside = a().folder() + "/aside";
  auto make_steps = [&] {
    for (int i = 0; i < 3; ++i) {
      for (auto& chain : writers_->chains()) {
        ASSERT_EQ(chain->step(data()), 0) << chain->describe(data());
      }
    }
  };
  make_steps();
  const Time then = now_ns();
  must_run({"cp", "-a", data(), earlier});
  EXPECT_EQ(writers_->not_a_cut(earlier, {.asked = then, .at = then}), "");
  make_steps();
  const Time now = now_ns();
  EXPECT_EQ(writers_->not_a_cut(data(), {.asked = now, .at = now}), "");
  EXPECT_NE(writers_->not_a_cut(data(), {.at = then}), "") << "later than that";
  for (const ChainWay& way : chain_ways()) {
    const std::string name = fmt::format("{}-1", way.name), here = data() + "/" + name;
    const CutTime time{.asked = way.ordered ? 0 : now};
    std::filesystem::rename(here, aside);
    must_run({"cp", "-a", earlier + "/" + name, here});
    EXPECT_NE(writers_->not_a_cut(data(), time), "") << name;
    std::filesystem::remove_all(here);
    EXPECT_NE(writers_->not_a_cut(data(), time), "") << name << ", gone";
    std::filesystem::rename(aside, here);
    EXPECT_EQ(writers_->not_a_cut(data(), time), "") << name;
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
      if (!wrong.starts_with("target: ")) throw;
    }
  }
  EXPECT_NE(wrong, "") << "in " << round << " epochs";
  fmt::print("found out at epoch {} of this test: {}\n", round, wrong);
}

INSTANTIATE_TEST_SUITE_P(Of, BrokenProgram,
                         ::testing::Values("EPOCHFS_WITHOUT_BARRIER", "EPOCHFS_WITHOUT_FLUSH",
                                           "EPOCHFS_WITHOUT_PREIMAGES"),
                         [](const auto& info) { return std::string(info.param + 8); });

}  // namespace
}  // namespace epochfs::testing
