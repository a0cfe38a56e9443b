// Is whatever epoch a target holds a state that a database could have crashed in?
#include <filesystem>
#include <thread>

#include "tests/e2e/files.h"
#include "tests/e2e/replica.h"

namespace epochfs::testing {
namespace {

std::string bank() {
  const char* tools = std::getenv("EPOCHFS_TOOLS");
  return std::string(tools ? tools : "tests/tools") + "/bank.py";
}

bool has_sqlite() {
  return run({.argv = {"python3", "-c", "import sqlite3"}}, Milliseconds(30'000)).status == 0;
}

// By SQLite's journal mode.
class SqliteTest : public TwoHosts, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    TwoHosts::SetUp();
    if (!IsSkipped() && !has_sqlite()) GTEST_SKIP() << "python3 has no sqlite3";
  }

  Outcome bank_in(const std::string& command, const std::string& directory) {
    Command words{.argv = {bank(), command, directory + "/bank.db"}};
    if (command != "check") words.argv.push_back(GetParam());
    return run(words, Host::kPatience);
  }
  // The database, copied from the target and opened there as after a crash.
  Outcome check_copy() {
    const std::string crashed = b().folder() + "/crashed";
    std::filesystem::remove_all(crashed);
    std::filesystem::copy(copy(), crashed, std::filesystem::copy_options::recursive);
    return bank_in("check", crashed);
  }
  // Whether what is in the target stays as it is.
  bool settled() {
    const TreeSnapshot before = snapshot(copy());
    std::this_thread::sleep_for(Milliseconds(500));
    return same_tree(before, snapshot(copy()));
  }
};

TEST_P(SqliteTest, OpensInAnyEpoch) {
  establish();
  ASSERT_EQ(bank_in("open", data()).status, 0);
  Background worker({.argv = {bank(), "work", data() + "/bank.db", GetParam()}});
  uint64_t transfers = 0;
  size_t progress = 0;
  for (int round = 0; round < 12 && !HasFailure(); ++round) {
    eventually("the bank works", [&] { return worker.said().size() > progress || !worker.running(); });
    ASSERT_TRUE(worker.running()) << worker.said();
    progress = worker.said().size();
    const uint64_t epoch = replica().barrier();
    replica().wait_for_epoch(epoch);
    a().must({"relationship", "disable", replica().id()});
    replica().await_state("Off");
    // What was committed before is still being applied, perhaps.
    Outcome checked;
    eventually("the target holds one epoch", [&] {
      checked = check_copy();
      return checked.status == 0 || settled();
    });
    if (checked.status != 0) checked = check_copy();
    ASSERT_EQ(checked.status, 0) << "epoch " << epoch << ": " << checked.err;
    const uint64_t now = std::strtoull(checked.out.c_str(), nullptr, 10);
    EXPECT_GT(now, transfers) << "epoch " << epoch;
    transfers = now;
    a().must({"relationship", "enable", replica().id()});
  }
  worker.kill();
  EXPECT_TRUE(replica().becomes_equal());
}

INSTANTIATE_TEST_SUITE_P(Journal, SqliteTest, ::testing::Values("wal", "delete", "truncate"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace epochfs::testing
