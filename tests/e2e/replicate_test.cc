// Does the target hold what the source held, at every epoch that it is asked about?
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/e2e/mutator.h"
#include "tests/e2e/odd_trees.h"
#include "tests/e2e/replica.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr Strictness kAsModelled{.times = false, .holes = false};

using ReplicateTest = TwoHosts;

TEST_F(ReplicateTest, GoesFromProposalToUpToDate) {
  write_file(data() + "/file", "as it was before the mount");
  start_daemons();
  a().mount(data());
  replica().create();
  EXPECT_EQ(replica().id().size(), 12u);
  replica().await_proposal();
  EXPECT_EQ(replica().state(), "Awaiting Authorization");
  EXPECT_EQ(replica().target_status().state, "Awaiting Authorization");
  EXPECT_EQ(replica().status().recovery_epoch, 0u);
  EXPECT_TRUE(snapshot(copy()).size() == 1) << "something was copied before it was allowed";

  replica().authorize();
  a().must({"wait", replica().id(), "--timeout", "60"});
  EXPECT_GE(replica().status().recovery_epoch, 1u);
  replica().await_state("Up to Date");
  replica().await_target_state("Up to Date");
  EXPECT_TRUE(replica().is_equal());
}

TEST_F(ReplicateTest, AnEmptyDirectoryIsReplicatedToo) {
  establish();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ReplicateTest, AnOddTreeArrives) {
  make_odd_tree(data() + "/before");
  establish();
  EXPECT_TRUE(replica().becomes_equal());
  make_odd_tree(data() + "/after");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ReplicateTest, TheRootItselfIsPartOfTheTree) {
  establish();
  EXPECT_TRUE(replica().becomes_equal());
  ASSERT_EQ(::chmod(data().c_str(), 02750), 0);
  ASSERT_EQ(::chown(data().c_str(), 1000, 1001), 0);
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_EQ(snapshot(copy()).at(".").uid, 1000u);
}

TEST_F(ReplicateTest, WhatTheMountShowsIsWhatTheDirectoryBeneathHolds) {
  Random random;
  a().mount(data());
  Mutator mutator(data(), random);
  mutator.run(2000);
  const TreeSnapshot mounted = snapshot(data());
  EXPECT_TRUE(same_tree(mutator.model().snapshot(), mounted, kAsModelled));
  a().unmount(data());
  EXPECT_TRUE(same_tree(mounted, snapshot(data())));
}

class RoundsTest : public TwoHosts {
 protected:
  void run_rounds(Random& random) {
    Mutator mutator(data(), random);
    mutator.run(1000);  // the tree that the baseline finds
    establish();
    for (int round = 0; round < 12; ++round) {
      const uint64_t epoch = replica().barrier();
      const TreeSnapshot wanted = snapshot(data());
      ASSERT_TRUE(same_tree(mutator.model().snapshot(), wanted, kAsModelled)) << "round " << round;
      replica().wait_for_epoch(epoch);
      ASSERT_TRUE(same_tree(wanted, snapshot(copy()))) << "round " << round;
      mutator.run(1 + random.below(600));
    }
  }
};

TEST_F(RoundsTest, EveryRoundOfRandomChangesArrivesExactly) {
  Random random;
  run_rounds(random);
}

// These rounds make a file that has as many blocks as if it had no hole: the others stand
// elsewhere.
TEST_F(RoundsTest, AHoleThatTheNumberOfBlocksHidesArrives) {
  Random random(2201923137);
  run_rounds(random);
}

class WriteBackTest : public TwoHosts {
 protected:
  void establish_with_write_back() {
    start_daemons();
    a().mount(data(), {"-o", "writeback"});
    replica().establish();
  }
};

// Neither closed nor synced: what the kernel has gathered comes in by the barrier's flush.
TEST_F(WriteBackTest, TheBarrierFlushesWhatIsGathered) {
  write_file(data() + "/old", std::string(100'000, 'o'));
  establish_with_write_back();
  ASSERT_TRUE(replica().becomes_equal());
  UniqueFd fresh(::open((data() + "/fresh").c_str(), O_CREAT | O_WRONLY, 0644));
  UniqueFd old(::open((data() + "/old").c_str(), O_WRONLY));
  for (int i = 0; i < 50; ++i) {
    const std::string text = "line " + std::to_string(i);
    ASSERT_EQ(::write(fresh.get(), text.data(), text.size()), ssize_t(text.size()));
    ASSERT_EQ(::pwrite(old.get(), text.data(), text.size(), i * 1999 + 3), ssize_t(text.size()));
    if (i % 10) continue;
    replica().wait_for_epoch(replica().barrier());
    ASSERT_EQ(read_whole_file(copy() + "/fresh"), read_whole_file(data() + "/fresh"));
    ASSERT_EQ(read_whole_file(copy() + "/old"), read_whole_file(data() + "/old"));
  }
}

// Times of files come with the kernel's own flush, later than the bytes.
TEST_F(WriteBackTest, EveryRoundOfRandomChangesArrives) {
  Random random;
  Mutator mutator(data(), random);
  mutator.run(1000);
  establish_with_write_back();
  for (int round = 0; round < 8; ++round) {
    mutator.run(1 + random.below(600));
    replica().wait_for_epoch(replica().barrier());
    ASSERT_TRUE(same_tree(mutator.model().snapshot(), snapshot(copy()), kAsModelled));
  }
  // Such a mount tells of no holes: looked at beneath, where they need not be read.
  replica().wait_for_epoch(replica().barrier());
  a().unmount(data());
  EXPECT_TRUE(same_tree(snapshot(data()), snapshot(copy()), {.holes = false}));
}

TEST_F(ReplicateTest, PreallocatedAndZeroedRangesArriveAsZeros) {
  Random random;
  Mutator mutator(data(), random, Mutator::Preallocation::kSometimes);
  establish();
  for (int round = 0; round < 5; ++round) {
    mutator.run(500);
    replica().wait_for_epoch(replica().barrier());
    ASSERT_TRUE(same_tree(snapshot(data()), snapshot(copy()), {.holes = false}));
    ASSERT_TRUE(same_tree(mutator.model().snapshot(), snapshot(copy()), kAsModelled));
  }
}

TEST_F(ReplicateTest, ZerosThatAreStoredStayStored) {
  write_file(data() + "/zeros", std::string(1 << 20, '\0'));
  establish();
  EXPECT_TRUE(replica().becomes_equal());
  write_file(data() + "/more-zeros", std::string(1 << 20, '\0'));
  append_file(data() + "/zeros", std::string(1 << 20, '\0'));
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ReplicateTest, ChangesDuringTheInitialCopyArriveToo) {
  Random random;
  make_many_files(data() + "/many", 20, 5000);
  make_directory(data() + "/random");
  start_daemons();
  a().mount(data());
  Mutator mutator(data() + "/random", random);
  mutator.run(200);
  replica().establish();
  for (int i = 0; i < 20; ++i) {
    mutator.run(100);
    // Directories that the walk has seen, or has yet to see.
    ASSERT_EQ(::rename((data() + "/many/" + std::to_string(i)).c_str(),
                       (data() + "/many/renamed-" + std::to_string(19 - i)).c_str()),
              0);
  }
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ReplicateTest, ChangesFromSeveralProcessesWhileEpochsAreCut) {
  Random random;
  establish();
  std::vector<std::unique_ptr<Mutator>> mutators;
  for (const char* name : {"/one", "/two", "/three"}) {
    make_directory(data() + name);
    mutators.push_back(std::make_unique<Mutator>(data() + name, random));
  }
  std::vector<std::thread> threads;
  std::vector<std::string> failures(mutators.size());
  for (size_t i = 0; i < mutators.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        mutators[i]->run(3000);
      } catch (const Failure& failure) {
        failures[i] = failure.what();
      }
    });
  }
  // Barriers in the middle of everything; the daemon's own come as well.
  for (int i = 0; i < 10; ++i) replica().wait_for_epoch(replica().barrier());
  for (auto& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ReplicateTest, ChangesArriveWithoutABarrierByHand) {
  establish();
  replica().wait_until_idle();
  write_file(data() + "/file", "changed");
  eventually("the file arrives by the daemon's own barrier",
             [&] { return ::access((copy() + "/file").c_str(), F_OK) == 0; });
  replica().await_state("Up to Date");
  EXPECT_TRUE(replica().is_equal());
}

TEST_F(ReplicateTest, EpochsAreNumberedWithoutGaps) {
  a().mount(data());
  for (uint64_t epoch = 1; epoch <= 5; ++epoch) {
    write_file(data() + "/file", std::to_string(epoch));
    EXPECT_EQ(replica().barrier(), epoch);
  }
  // An epoch can be empty, too.
  EXPECT_EQ(replica().barrier(), 6u);
}

TEST_F(ReplicateTest, ChangesMadeWhileNoDaemonRunsArriveLater) {
  Random random;
  Mutator mutator(data(), random);
  establish();
  mutator.run(300);
  EXPECT_TRUE(replica().becomes_equal());
  a().stop_daemon();
  mutator.run(300);
  replica().barrier();
  mutator.run(300);
  a().start_daemon();
  EXPECT_TRUE(replica().becomes_equal());
  b().stop_daemon();
  mutator.run(300);
  b().start_daemon();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(ReplicateTest, ARemountGoesOnWithTheSameVolume) {
  Random random;
  Mutator mutator(data(), random);
  establish();
  mutator.run(300);
  EXPECT_TRUE(replica().becomes_equal());
  const std::string journal = a().journal(data());
  for (int i = 0; i < 3; ++i) {
    mutator.run(100);
    a().unmount(data());
    replica().await_state("Disconnected");
    a().mount(data());
    EXPECT_EQ(a().journal(data()), journal);
    mutator.run(100);
    EXPECT_TRUE(replica().becomes_equal());
  }
}

}  // namespace
}  // namespace epochfs::testing
