// What happens to a relationship as administrators of either side create, accept, refuse, stop
// and end it?
#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

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

class RelationshipTest : public TwoHosts {};

bool listed(const Host& host, const std::string& id) {
  const Outcome outcome = host.epochfs({"relationship", "list", "--json"});
  return outcome.out.find("\"" + id + "\"") != std::string::npos;
}

TEST_F(RelationshipTest, DisabledItIsOffAndEnabledItGoesOn) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  a().must({"relationship", "disable", replica().id()});
  replica().await_state("Off");
  const TreeSnapshot held = snapshot(copy());
  write_file(data() + "/file", "has to wait");
  EXPECT_EQ(a().epochfs({"wait", replica().id(), "--idle", "--timeout", "2"}).status, 8);
  EXPECT_TRUE(same_tree(held, snapshot(copy())));

  a().must({"relationship", "enable", replica().id()});
  EXPECT_TRUE(replica().becomes_equal());
  replica().await_state("Up to Date");
}

// Or else nobody could copy what the target holds.
TEST_F(RelationshipTest, DisabledItsTargetStandsStillOnceItSaysThatItIsDisconnected) {
  Random random;
  make_many_files(data() + "/many", 20, 1000);
  establish({"--interval", "86400"});
  replica().wait_until_idle();
  TreeSnapshot before = snapshot(copy());
  for (int round = 0; round < 4 && !HasFailure(); ++round) {
    std::filesystem::rename(data() + (round % 2 ? "/few" : "/many"),
                            data() + (round % 2 ? "/many" : "/few"));
    for (int i = 0; i < 500; ++i) write_file(fmt::format("{}/{}-{}", data(), round, i), "new");
    const TreeSnapshot after = snapshot(data());
    const uint64_t began = b().stored_bytes();
    a().must({"relationship", "replicate", replica().id()});
    if (random.one_in(2)) {
      eventually("something comes", [&] { return b().stored_bytes() != began; });
    }
    a().must({"relationship", "disable", replica().id()});
    replica().await_target_state("Disconnected");
    const TreeSnapshot held = snapshot(copy());
    EXPECT_TRUE(same_tree(before, held) || same_tree(after, held)) << "round " << round;
    a().must({"relationship", "enable", replica().id()});
    replica().wait_until_idle();
    EXPECT_TRUE(same_tree(after, snapshot(copy())));
    before = after;
  }
}

TEST_F(RelationshipTest, CreatedDisabledItCanBeAcceptedAndWaits) {
  write_file(data() + "/file", "has to wait");
  start_daemons();
  a().mount(data());
  replica().establish({"--disabled"});
  replica().await_state("Off");
  EXPECT_EQ(a().epochfs({"wait", replica().id(), "--timeout", "2"}).status, 8);
  EXPECT_EQ(snapshot(copy()).size(), 1u);
  a().must({"relationship", "enable", replica().id()});
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(RelationshipTest, EpochsComeAtItsInterval) {
  establish({"--interval", "86400"});
  replica().wait_until_idle();
  const uint64_t sent = replica().status().epochs_sent;
  write_file(data() + "/file", "waits for whoever asks");
  replica().wait_until_idle();
  EXPECT_EQ(read_whole_file(copy() + "/file"), "waits for whoever asks");
  write_file(data() + "/file", "nobody asks");
  a().must({"barrier", data()});
  EXPECT_EQ(replica().status().epochs_sent, sent + 1);

  a().must({"relationship", "edit", replica().id(), "--interval", "1.001"});
  eventually("it is copied", [&] { return read_whole_file(copy() + "/file") == "nobody asks"; });
  EXPECT_NE(a().must({"relationship", "show", replica().id()}).find("1.001 s"), std::string::npos);
}

TEST_F(RelationshipTest, DeclinedItEndsAndNothingIsCopied) {
  write_file(data() + "/file", "stays here");
  start_daemons();
  a().mount(data());
  replica().create();
  replica().await_proposal();
  b().must({"relationship", "decline", replica().id()});
  replica().await_state("Ended");
  EXPECT_EQ(a().epochfs({"status", replica().id()}).status, 3);
  EXPECT_EQ(a().epochfs({"wait", replica().id(), "--timeout", "10"}).status, 3);
  EXPECT_EQ(snapshot(copy()).size(), 1u);
  EXPECT_EQ(b().epochfs({"relationship", "authorize", replica().id()}).status, 1);
}

TEST_F(RelationshipTest, DeletedOnTheSourceItEndsOnTheTargetAndTheDataStays) {
  write_file(data() + "/file", "stays on both");
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  const TreeSnapshot held = snapshot(copy());
  a().must({"relationship", "delete", replica().id(), "--yes"});
  EXPECT_FALSE(listed(a(), replica().id()));
  EXPECT_EQ(a().epochfs({"status", replica().id()}).status, 4);
  replica().await_target_state("Ended");
  write_file(data() + "/later", "is not copied");
  EXPECT_TRUE(same_tree(held, snapshot(copy())));

  b().must({"relationship", "delete", replica().id(), "--yes"});
  EXPECT_FALSE(listed(b(), replica().id()));
  EXPECT_TRUE(same_tree(held, snapshot(copy())));
  // Nothing of ours is left beside the data either.
  EXPECT_EQ(run({.argv = {"find", b().folder(), "-maxdepth", "1", "-name", ".epochfs-*"}},
                Host::kPatience)
                .out,
            "");
}

TEST_F(RelationshipTest, DeletedOnTheTargetItEndsOnTheSourceAndTheDataStays) {
  write_file(data() + "/file", "stays on both");
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  const TreeSnapshot held = snapshot(copy());
  b().must({"relationship", "delete", replica().id(), "--yes"});
  EXPECT_FALSE(listed(b(), replica().id()));
  replica().await_state("Ended");
  write_file(data() + "/later", "is not copied");
  EXPECT_EQ(a().epochfs({"wait", replica().id(), "--idle", "--timeout", "10"}).status, 3);
  EXPECT_TRUE(same_tree(held, snapshot(copy())));

  a().must({"relationship", "delete", replica().id(), "--yes"});
  EXPECT_FALSE(listed(a(), replica().id()));
  EXPECT_EQ(read_whole_file(data() + "/file"), "stays on both");
}

TEST_F(RelationshipTest, DeletedOnTheTargetWhileTheSourceIsAwayItEndsThereLater) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  a().stop_daemon();
  b().must({"relationship", "delete", replica().id(), "--yes"});
  b().stop_daemon();
  b().start_daemon();
  a().start_daemon();
  replica().await_state("Ended");
}

TEST_F(RelationshipTest, DeletedWithoutYesWhereNobodyCanBeAskedItStays) {
  establish();
  EXPECT_EQ(a().epochfs({"relationship", "delete", replica().id()}).status, 2);
  EXPECT_TRUE(listed(a(), replica().id()));
}

TEST_F(RelationshipTest, AnotherOneCanFollow) {
  write_file(data() + "/file", "first");
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  a().must({"relationship", "delete", replica().id(), "--yes"});
  replica().await_target_state("Ended");
  b().must({"relationship", "delete", replica().id(), "--yes"});

  write_file(data() + "/file", "second");
  replica().create();
  replica().await_proposal();
  // Its target is not empty now.
  EXPECT_EQ(b().epochfs({"relationship", "authorize", replica().id()}).status, 1);
  replica().authorize({"--replace-contents"});
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(RelationshipTest, OneVolumeCanHaveTwo) {
  Random random;
  Mutator mutator(data(), random);
  mutator.run(300);
  establish();
  Replica second(a(), data(), b(), b().make_directory("second"));
  ASSERT_TRUE(replica().becomes_equal());
  mutator.run(300);
  second.establish();
  ASSERT_TRUE(second.becomes_equal());
  // At different speeds.
  a().must({"relationship", "disable", second.id()});
  for (int i = 0; i < 3; ++i) {
    mutator.run(200);
    ASSERT_TRUE(replica().becomes_equal());
  }
  a().must({"relationship", "enable", second.id()});
  mutator.run(100);
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_TRUE(second.becomes_equal());
  // One of them ends, the other does not.
  a().must({"relationship", "delete", replica().id(), "--yes"});
  mutator.run(100);
  EXPECT_TRUE(second.becomes_equal());
}

TEST_F(RelationshipTest, TwoVolumesToOneTargetHost) {
  Random random;
  establish();
  const std::string other_data = a().make_directory("other");
  Replica other(a(), other_data, b(), b().make_directory("other-copy"));
  a().mount(other_data);
  other.establish();
  Mutator mutator(data(), random), other_mutator(other_data, random);
  mutator.run(300);
  other_mutator.run(300);
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_TRUE(other.becomes_equal());
}

// What is a target here is a source to the next.
TEST_F(RelationshipTest, BothHostsCanBeSourceAndTarget) {
  establish();
  const std::string back_data = b().make_directory("back");
  Replica back(b(), back_data, a(), a().make_directory("back-copy"));
  b().mount(back_data);
  back.establish();
  write_file(data() + "/there", "there");
  write_file(back_data + "/back", "back");
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_TRUE(back.becomes_equal());
}

TEST_F(RelationshipTest, TheTargetCanMoveToAnotherPort) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  b().stop_daemon();
  write_file(data() + "/file", "meanwhile");
  replica().await_state("Target Unreachable");
  b().start_daemon_elsewhere();
  a().must({"relationship", "edit", replica().id(), "--port", std::to_string(b().port())});
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(RelationshipTest, AnUnreachableTargetShowsWhileNothingChangesToo) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  replica().await_state("Up to Date");
  b().kill_daemon();
  replica().await_state("Target Unreachable");
  EXPECT_EQ(a().epochfs({"status"}).status, 3);
  b().start_daemon();
  replica().await_state("Up to Date");
}

TEST_F(RelationshipTest, ASourceThatIsAwayShowsOnTheTarget) {
  establish();
  replica().await_target_state("Up to Date");
  a().kill_daemon();
  replica().await_target_state("Disconnected");
  a().start_daemon();
  replica().await_target_state("Up to Date");
}

TEST_F(RelationshipTest, ItsIdMayBeShortened) {
  establish();
  const std::string id = replica().id();
  EXPECT_NE(a().must({"relationship", "show", id.substr(0, 6)}).find(id), std::string::npos);
  a().must({"wait", id.substr(0, 6), "--timeout", "60"});
}

TEST_F(RelationshipTest, ItSurvivesRestartsOfBothSidesWhileItIsUndecided) {
  start_daemons();
  a().mount(data());
  write_file(data() + "/file", "arrives");
  replica().create();
  replica().await_proposal();
  a().kill_daemon();
  b().kill_daemon();
  start_daemons();
  EXPECT_EQ(replica().state(), "Awaiting Authorization");
  replica().authorize();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(RelationshipTest, TheTargetNeedNotBeThereYetWhenItIsCreated) {
  b().start_daemon();
  b().stop_daemon();
  a().start_daemon();
  a().mount(data());
  write_file(data() + "/file", "arrives");
  replica().create();
  EXPECT_EQ(replica().state(), "Awaiting Authorization");
  b().start_daemon();
  replica().await_proposal();
  replica().authorize();
  EXPECT_TRUE(replica().becomes_equal());
}

// A target directory that has vanished is an error, not an empty directory to fill.
TEST_F(RelationshipTest, AVanishedTargetDirectoryIsNotMadeAnew) {
  establish();
  write_file(data() + "/file", "first");
  ASSERT_TRUE(replica().becomes_equal());
  b().stop_daemon();
  ASSERT_EQ(::rename(copy().c_str(), (copy() + "-away").c_str()), 0);
  b().start_daemon();
  write_file(data() + "/file", "second");
  replica().await_state("Failed");
  EXPECT_NE(replica().status().last_error.find(copy()), std::string::npos)
      << replica().status().last_error;
  struct stat st;
  EXPECT_EQ(::lstat(copy().c_str(), &st), -1);
  EXPECT_EQ(read_whole_file(copy() + "-away/file"), "first");
  // Back again, it goes on.
  ASSERT_EQ(::rename((copy() + "-away").c_str(), copy().c_str()), 0);
  EXPECT_TRUE(replica().becomes_equal());
}

struct Way {
  const char *name, *listen, *address;
};

void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

class AddressTest : public RelationshipTest, public ::testing::WithParamInterface<Way> {};

TEST_P(AddressTest, ReachesTheTarget) {
  b().listen_on(GetParam().listen, GetParam().address);
  try {
    b().start_daemon();
  } catch (const Failure& failure) {
    GTEST_SKIP() << failure.what();
  }
  a().start_daemon();
  a().mount(data());
  write_file(data() + "/file", "arrives");
  replica().establish();
  EXPECT_TRUE(replica().becomes_equal());
}

INSTANTIATE_TEST_SUITE_P(By, AddressTest,
                         ::testing::Values(Way{"Ipv6", "[::1]", "::1"},
                                           Way{"Name", "127.0.0.1", "localhost"}),
                         [](const auto& info) { return std::string(info.param.name); });

// The source's host is put back to a snapshot: its state, and its directory in which there are only
// files. Nothing of it runs meanwhile.
class PutBackTest : public RelationshipTest {
 protected:
  void stop_source() {
    a().stop_daemon();
    a().unmount(data());
  }
  void take_snapshot() {
    copy_all(a().state(), a() / "state-then");
    copy_all(data(), a() / "data-then");
  }
  void put_back() {
    std::filesystem::remove_all(a().state());
    copy_all(a() / "state-then", a().state());
    // In place, since the files of a snapshot have the same identities.
    for (const auto& file : std::filesystem::directory_iterator(data())) {
      const std::string name = file.path().filename();
      if (!std::filesystem::exists(a() / "data-then/" + name)) std::filesystem::remove(file);
    }
    for (const auto& file : std::filesystem::directory_iterator(a() / "data-then")) {
      copy_all(file.path(), data() + "/" + file.path().filename().string());
    }
  }

 private:
  static void copy_all(const std::string& from, const std::string& to) {
    const Outcome copied = run({{"cp", "-aT", from, to}, {}, {}}, Host::kPatience);
    if (copied.status != 0) throw Failure("copy " + from + ": " + copied.err);
  }
};

struct PutBack {
  const char* name;
  int commits;        // by how many it is put back
  bool writes_first;  // before its daemon speaks to the target again
};

void PrintTo(const PutBack& put_back, std::ostream* out) { *out << put_back.name; }

class PutBackByTest : public PutBackTest, public ::testing::WithParamInterface<PutBack> {};

TEST_P(PutBackByTest, TheTargetFollows) {
  write_file(data() + "/file", "first");
  establish({"--interval", "86400"});
  ASSERT_TRUE(replica().becomes_equal());
  stop_source();
  take_snapshot();

  a().mount(data());
  write_file(data() + "/file", "overwritten");
  write_file(data() + "/ransom", "pay");
  const uint64_t epoch = replica().barrier();
  a().start_daemon();
  replica().wait_for_epoch(epoch);
  for (int more = 1; more < GetParam().commits; ++more) {
    write_file(data() + "/ransom", std::to_string(more));
    ASSERT_TRUE(replica().becomes_equal());
  }
  ASSERT_EQ(read_whole_file(copy() + "/file"), "overwritten");
  stop_source();
  put_back();

  a().mount(data());
  if (GetParam().writes_first) {
    write_file(data() + "/new", "new");
    replica().barrier();
  }
  a().start_daemon();
  replica().wait_until_idle();
  replica().await_state("Up to Date");
  EXPECT_TRUE(replica().is_equal());
  EXPECT_NE(replica().status().compared_reason.find("the target holds"), std::string::npos)
      << replica().status().compared_reason;
  write_file(data() + "/file", "later");
  EXPECT_TRUE(replica().becomes_equal());
}

INSTANTIATE_TEST_SUITE_P(By, PutBackByTest,
                         ::testing::Values(PutBack{"OneCommit", 1, false},
                                           PutBack{"OneCommitAndThenWritten", 1, true},
                                           PutBack{"ThreeCommits", 3, false},
                                           PutBack{"ThreeCommitsAndThenWritten", 3, true}),
                         [](const auto& info) { return std::string(info.param.name); });

// The file of the relationship is as it would be if the daemon had been killed between the target's
// commit and its own note of it.
TEST_F(PutBackTest, ALostAcknowledgementIsNoReasonToCompare) {
  write_file(data() + "/file", "first");
  establish({"--interval", "86400"});
  ASSERT_TRUE(replica().becomes_equal());
  a().stop_daemon();
  const std::string file = a().state() + "/relationships/" + replica().id() + ".json";
  const std::string before = read_whole_file(file);
  write_file(data() + "/file", "second");
  const uint64_t epoch = replica().barrier();
  a().start_daemon();  // one commit is due, not more
  replica().wait_for_epoch(epoch);
  a().kill_daemon();
  write_file(file, before);
  write_file(data() + "/other", "third");
  a().start_daemon();
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_EQ(replica().status().compared_reason, "");
}

// The same LSNs are given out again, for other bytes of the same files.
TEST_F(PutBackTest, WhatWasStagedBeforeIsNotTakenForWhatIsSentNow) {
  constexpr uint64_t kSize = 64 << 20;  // more than what can be on the way
  const std::string file = data() + "/file";
  write_large_file(file, kSize, 1);
  establish({"--interval", "86400"});
  ASSERT_TRUE(replica().becomes_equal());
  stop_source();
  take_snapshot();

  a().mount(data());
  a().start_daemon();
  replica().wait_until_idle();
  write_large_file(file, kSize, 3);
  stop_in_a_transfer();
  a().stop_daemon();
  b().thaw_daemon();
  replica().await_target_state("Disconnected");
  a().unmount(data());
  put_back();

  a().mount(data());
  a().start_daemon();
  replica().wait_until_idle();
  write_large_file(file, kSize, 5);
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(RelationshipTest, TheDaemonEndsWhileSomebodyWaits) {
  establish();
  replica().wait_until_idle();
  const Arguments forever = {"wait", replica().id(), "--epoch", "1000000"};
  Background gone(a().command(forever)), waits(a().command(forever));
  EXPECT_FALSE(gone.wait(Milliseconds(500)));
  gone.kill();
  a().stop_daemon();
  EXPECT_EQ(waits.wait(Host::kPatience), 6);
}

}  // namespace
}  // namespace epochfs::testing
