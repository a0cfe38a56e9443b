// Is every epoch that a target holds a cut in the order in which changes returned?
#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/e2e/chains.h"
#include "tests/e2e/files.h"
#include "tests/e2e/random.h"
#include "tests/e2e/replica.h"

namespace epochfs::testing {
namespace {

constexpr int kWriters = 4;

class ConsistencyTest : public TwoHosts {
 protected:
  // Each writer has a chain of every kind, and makes steps of any.
  void make_chains() {
    for (int w = 0; w < kWriters; ++w) {
      for (const Chain::Way& way : Chain::ways()) {
        chains_.push_back(std::make_unique<Chain>(
            way, std::string(way.name) + "-" + std::to_string(w)));
      }
    }
  }

  void start_writers() {
    stop_ = false;
    for (int w = 0; w < kWriters; ++w) {
      writers_.emplace_back([this, w, seed = random_->u64()] {
        Random random(seed);
        const size_t kinds = Chain::ways().size();
        while (!stop_) {
          Chain& chain = *chains_[size_t(w) * kinds + random.below(kinds)];
          if (chain.step(clock_, data()) != 0) return;  // the mount has gone
          ++steps_;
        }
      });
    }
  }
  void stop_writers() {
    stop_ = true;
    for (std::thread& writer : writers_) writer.join();
    writers_.clear();
  }
  void resume_chains() {
    for (auto& chain : chains_) chain->resume(clock_, data());
  }
  void let_them_write(uint64_t steps) {
    const uint64_t until = steps_ + steps;
    eventually("the writers write", [&] { return steps_ >= until; });
  }

  // Of an epoch that is cut while the writers write.
  void check_an_epoch() {
    const uint64_t since = clock_.tick();
    expect_at_an_epoch([&] {
      stop_writers();
      return not_a_cut(chains_, copy(), since);
    });
    start_writers();
  }

  void SetUp() override {
    TwoHosts::SetUp();
    if (IsSkipped()) return;
    random_ = std::make_unique<Random>();
    make_chains();
  }
  void TearDown() override {
    if (!writers_.empty()) stop_writers();
    TwoHosts::TearDown();
  }

  std::unique_ptr<Random> random_;
  Clock clock_;
  std::vector<std::unique_ptr<Chain>> chains_;
  std::vector<std::thread> writers_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> steps_{0};
};

TEST_F(ConsistencyTest, EveryEpochIsACutUnderLoad) {
  establish();
  start_writers();
  for (int round = 0; round < 20 && !HasFailure(); ++round) {
    let_them_write(300 + random_->below(1000));
    check_an_epoch();
  }
  stop_writers();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ConsistencyTest, WithEitherDaemonKilled) {
  establish();
  start_writers();
  for (int round = 0; round < 5 && !HasFailure(); ++round) {
    let_them_write(300 + random_->below(1000));
    Host& victim = random_->one_in(2) ? a() : b();
    victim.kill_daemon();
    let_them_write(300);
    victim.start_daemon();
    check_an_epoch();
  }
  stop_writers();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ConsistencyTest, WithTheMountKilled) {
  establish();
  start_writers();
  for (int round = 0; round < 4 && !HasFailure(); ++round) {
    let_them_write(300 + random_->below(1000));
    check_an_epoch();
    let_them_write(300);
    a().kill_mount(data());
    stop_writers();
    a().mount(data());
    resume_chains();
    start_writers();
  }
  check_an_epoch();
  stop_writers();
  EXPECT_TRUE(replica().becomes_equal());
}

// The proof that the check can fail: one file from an earlier state in a later one.
TEST_F(ConsistencyTest, AMixOfTwoStatesIsNoCut) {
  using std::filesystem::copy_options;
  const std::string earlier = a().make_directory("earlier");
  auto make_steps = [&] {
    for (int i = 0; i < 3; ++i) {
      for (auto& chain : chains_) ASSERT_EQ(chain->step(clock_, data()), 0);
    }
  };
  make_steps();
  const uint64_t since = clock_.tick();
  std::filesystem::copy(data(), earlier, copy_options::recursive);
  make_steps();
  EXPECT_EQ(not_a_cut(chains_, data(), clock_.tick()), "");
  for (const char* name : {"append-1", "overwrite-2", "replace-0", "grow-3"}) {
    const std::string here = data() + "/" + name, aside = a().folder() + "/aside";
    std::filesystem::rename(here, aside);
    std::filesystem::copy(earlier + "/" + name, here, copy_options::recursive);
    EXPECT_NE(not_a_cut(chains_, data(), since), "") << name;
    std::filesystem::remove_all(here);
    EXPECT_NE(not_a_cut(chains_, data(), since), "") << name << ", gone";
    std::filesystem::rename(aside, here);
    EXPECT_EQ(not_a_cut(chains_, data(), since), "") << name;
  }
}

}  // namespace
}  // namespace epochfs::testing
