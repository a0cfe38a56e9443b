// When a daemon is killed at any moment, does replication go on where it stopped?
#include <sys/stat.h>

#include "tests/e2e/mutator.h"
#include "tests/e2e/odd_trees.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

struct Victims {
  const char* name;
  bool source, target;
};

void PrintTo(const Victims& victims, std::ostream* out) { *out << victims.name; }

class KillDaemonTest : public TwoHosts, public ::testing::WithParamInterface<Victims> {
 protected:
  void kill_victims() {
    if (GetParam().source) a().kill_daemon();
    if (GetParam().target) b().kill_daemon();
  }
  void start_victims() {
    if (GetParam().target) b().start_daemon();
    if (GetParam().source) a().start_daemon();
  }
  void kill_and_restart() {
    kill_victims();
    start_victims();
  }
  bool copied() { return a().epochfs({"wait", replica().id(), "--timeout", "0.05"}).status == 0; }
};

// Long enough for a few kills, and with one file that is in flight for a while.
void make_large_tree(const std::string& in) {
  make_many_files(in + "/many", 50, 8000);
  write_large_file(in + "/large", 200 << 20, 1);
  make_odd_tree(in + "/odd");
}

TEST_P(KillDaemonTest, DuringTheInitialCopy) {
  Random random;
  make_large_tree(data());
  establish();
  int kills = 0;
  for (; kills < 6 && !copied(); ++kills) {
    std::this_thread::sleep_for(Milliseconds(random.below(700)));
    kill_and_restart();
  }
  std::printf("%d kills before the first recovery point\n", kills);
  EXPECT_GE(kills, 2) << "the copy was over too soon to say anything";
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_P(KillDaemonTest, DuringEdits) {
  Random random;
  Mutator mutator(data(), random);
  mutator.run(600);
  establish();
  a().must({"wait", replica().id(), "--timeout", "100"});
  for (int kills = 0; kills < 8; ++kills) {
    mutator.run(100 + random.below(200));
    replica().barrier();
    std::this_thread::sleep_for(Milliseconds(random.below(300)));
    kill_victims();
    mutator.run(random.below(100));
    start_victims();
  }
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_TRUE(
      same_tree(mutator.model().snapshot(), snapshot(copy()), {.times = false, .holes = false}));
}

// A change that takes a while to ship: what has arrived is not sent once more.
TEST_P(KillDaemonTest, InTheMiddleOfALargeFile) {
  establish();
  replica().wait_until_idle();
  const uint64_t before = b().stored_bytes();
  write_large_file(data() + "/large", 400 << 20, 7);
  const uint64_t epoch = replica().barrier();
  eventually("some of the file has arrived",
             [&] { return b().stored_bytes() > before + (20 << 20); });
  kill_and_restart();
  replica().wait_for_epoch(epoch);
  EXPECT_TRUE(replica().becomes_equal());
}

INSTANTIATE_TEST_SUITE_P(Of, KillDaemonTest,
                         ::testing::Values(Victims{"Source", true, false},
                                           Victims{"Target", false, true},
                                           Victims{"Both", true, true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace epochfs::testing
