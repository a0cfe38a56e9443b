// Is whatever epoch a target holds a state that a database could have crashed in?
#include <filesystem>
#include <functional>
#include <set>

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

// Looks at the target at an epoch that is cut while a database works in the mount.
class DatabaseTest : public TwoHosts {
 protected:
  // The target's tree, copied: what there is after a crash. Keeps owners.
  std::string crashed() {
    const std::string to = b().folder() + "/crashed";
    std::filesystem::remove_all(to);
    EXPECT_EQ(run({.argv = {"cp", "-a", copy(), to}}, Host::kPatience).status, 0);
    return to;
  }

  // `check` says whether a crashed copy is sound.
  void check_an_epoch(const std::function<Outcome(const std::string& crashed)>& check) {
    expect_at_an_epoch([&] {
      const Outcome checked = check(crashed());
      return checked.status == 0 ? "" : "unsound: " + checked.out + checked.err;
    });
  }
};

// ---- SQLite, by journal mode ----

class SqliteTest : public DatabaseTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (!IsSkipped() && !has_sqlite()) GTEST_SKIP() << "python3 has no sqlite3";
  }

  Outcome bank_in(const std::string& command, const std::string& directory) {
    Command words{.argv = {bank(), command, directory + "/bank.db"}};
    if (command != "check") words.argv.push_back(GetParam());
    return run(words, Host::kPatience);
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
    const uint64_t before = transfers;
    check_an_epoch([&](const std::string& crashed) {
      const Outcome checked = bank_in("check", crashed);
      transfers = std::strtoull(checked.out.c_str(), nullptr, 10);
      return checked;
    });
    EXPECT_GT(transfers, before);
  }
  worker.kill();
  EXPECT_TRUE(replica().becomes_equal());
}

INSTANTIATE_TEST_SUITE_P(Journal, SqliteTest, ::testing::Values("wal", "delete", "truncate"),
                         [](const auto& info) { return std::string(info.param); });

// ---- PostgreSQL ----

class PostgresTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped()) return;
    std::error_code ignored;
    for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", ignored)) {
      if (std::filesystem::exists(version.path() / "bin/pgbench")) programs_ = version.path() / "bin";
    }
    if (programs_.empty()) GTEST_SKIP() << "PostgreSQL is not installed";
    // It runs as a user of its own.
    for (const Host* host : {&a(), &b()}) std::filesystem::permissions(host->folder(), kForAll);
  }
  void TearDown() override {
    while (!started_.empty()) stop(*started_.begin());
    DatabaseTest::TearDown();
  }

  Command as_postgres(const std::string& program, Arguments words) const {
    Command command{.argv = {"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                             (programs_ / program).string()}};
    command.argv.insert(command.argv.end(), words.begin(), words.end());
    return command;
  }
  Outcome postgres(const std::string& program, const Arguments& words) const {
    return run(as_postgres(program, words), Host::kPatience);
  }
  // Where the server of a data directory listens. Not in the replicated directory: the
  // lock beside the socket would be copied, too.
  std::string socket_of(const std::string& data) {
    return (data.starts_with(a().folder()) ? a() : b()).folder() + "/socket";
  }
  Outcome start(const std::string& data) {
    started_.insert(data);
    const Outcome made = run({.argv = {"install", "-d", "-o", "postgres", socket_of(data)}},
                             Host::kPatience);
    if (made.status != 0) return made;
    return postgres("pg_ctl", {"-D", data, "-w", "-t", "60", "-l", data + "/log", "-o",
                               "-c listen_addresses= -k " + socket_of(data), "start"});
  }
  Outcome stop(std::string data) {
    started_.erase(data);
    return postgres("pg_ctl", {"-D", data, "-w", "-m", "immediate", "stop"});
  }
  // Whether all tables agree on the money, as pgbench's transactions leave it.
  Outcome check(const std::string& data) {
    std::filesystem::remove(data + "/postmaster.pid");  // of the server that "crashed"
    Outcome outcome = start(data);
    if (outcome.status != 0) {
      outcome.err += read_whole_file(data + "/log");
      return outcome;
    }
    outcome = postgres("psql", {"-h", socket_of(data), "-At", "-d", "postgres", "-c",
        "select count(*) > 0 and sum(delta) = (select sum(abalance) from pgbench_accounts) and "
        "sum(delta) = (select sum(tbalance) from pgbench_tellers) and "
        "sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history"});
    stop(data);
    if (outcome.out != "t\n") outcome.status = 1;
    return outcome;
  }

  static constexpr auto kForAll = static_cast<std::filesystem::perms>(0755);
  std::filesystem::path programs_;

 private:
  std::set<std::string> started_;
};

TEST_F(PostgresTest, StartsInAnyEpoch) {
  const std::string cluster = data() + "/pg";
  establish();
  make_directory(cluster);
  ASSERT_EQ(run({.argv = {"chown", "postgres:postgres", cluster}}, Host::kPatience).status, 0);
  Outcome outcome = postgres("initdb", {"-D", cluster, "--no-sync", "-A", "trust"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  outcome = start(cluster);
  ASSERT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  outcome = postgres("pgbench", {"-h", socket_of(cluster), "-i", "-q", "-s", "2", "postgres"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  Background clients(as_postgres("pgbench", {"-h", socket_of(cluster), "-n", "-c", "4", "-T", "600",
                                             "-P", "1", "postgres"}));
  ASSERT_TRUE(clients.wait_for_line("progress: ", Milliseconds(60'000)));
  for (int round = 0; round < 10 && !HasFailure(); ++round) {
    ASSERT_TRUE(clients.running()) << clients.said();
    check_an_epoch([&](const std::string& crashed) { return check(crashed + "/pg"); });
  }
  clients.kill();
  EXPECT_EQ(stop(cluster).status, 0);
  EXPECT_TRUE(replica().becomes_equal());
}

}  // namespace
}  // namespace epochfs::testing
