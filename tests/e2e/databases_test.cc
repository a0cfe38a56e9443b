// Could a database have crashed in the state of every epoch that a target holds?
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "tests/e2e/replica.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/waiting.h"

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

  // Looks at many epochs, cut at random moments. `done` counts the transactions that are known
  // to be complete; `check` says whether a crashed copy is sound, and prints how many it has.
  // Each epoch has to hold what was complete before its barrier, and more than the one before.
  void check_epochs(const std::function<uint64_t()>& done,
                    const std::function<Outcome(const std::string& crashed)>& check) {
    constexpr int kEpochs = 24;
    constexpr uint64_t kLongestUs = 200'000;
    Random random;
    uint64_t held = 0;
    for (int i = 0; i < kEpochs; ++i) {
      eventually("there are new transactions", [&] { return done() > held; });
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(kLongestUs)));
      const uint64_t wanted = done();
      expect_at_an_epoch([&] {
        const Outcome checked = check(crashed());
        held = std::strtoull(checked.out.c_str(), nullptr, 10);
        return checked.status == 0 ? "" : "unsound: " + checked.out + checked.err;
      });
      if (HasFailure()) return;
      ASSERT_GE(held, wanted) << "transactions that were complete before the barrier are missing";
    }
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
  const Command work{.argv = {bank(), "work", data() + "/bank.db", GetParam()}};
  Background one(work), other(work);
  const auto done = [&]() -> uint64_t {
    if (!one.running() || !other.running()) throw Failure(one.said() + other.said());
    return 100 * (one.said().size() + other.said().size()) / std::strlen(".\n");
  };
  check_epochs(done, [&](const std::string& crashed) { return bank_in("check", crashed); });
  one.kill();
  other.kill();
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
    for (const auto& version :
         std::filesystem::directory_iterator("/usr/lib/postgresql", ignored)) {
      const std::filesystem::path bin = version.path() / "bin";
      if (exists(bin / "pgbench") && exists(bin / "pg_amcheck")) programs_ = bin;
    }
    if (programs_.empty()) GTEST_SKIP() << "PostgreSQL is not installed";
    // It runs as a user of its own.
    for (const Host* host : {&a(), &b()}) std::filesystem::permissions(host->folder(), kForAll);
  }
  void TearDown() override {
    while (!started_.empty()) stop(std::string(*started_.begin()), "immediate");
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
  Outcome start(const std::string& data, const std::string& settings) {
    started_.insert(data);
    const Outcome made =
        run({.argv = {"install", "-d", "-o", "postgres", socket_of(data)}}, Host::kPatience);
    if (made.status != 0) return made;
    Outcome started = postgres(
        "pg_ctl", {"-D", data, "-w", "-t", "60", "-l", data + "/log", "-o",
                   "-c listen_addresses= -k " + socket_of(data) + " " + settings, "start"});
    if (started.status != 0) started.err += read_whole_file(data + "/log");
    return started;
  }
  Outcome stop(const std::string& data, const std::string& mode) {
    const Outcome stopped = postgres("pg_ctl", {"-D", data, "-w", "-m", mode, "stop"});
    started_.erase(data);
    return stopped;
  }
  Outcome query(const std::string& data, const std::string& sql) {
    return postgres("psql", {"-h", socket_of(data), "-At", "-d", "postgres", "-c", sql});
  }

  // Recovers what a crash left, and looks at all of it: tables against indexes, the sums of
  // money, the checksum of every page. Prints how many transactions there were.
  Outcome check(const std::string& data) {
    std::filesystem::remove(data + "/postmaster.pid");  // of the server that "crashed"
    const Outcome started = start(data, "-c fsync=off");
    if (started.status != 0) return started;
    Outcome checked = check_tables(data);
    const Outcome stopped = stop(data, "fast");
    if (checked.status != 0) return checked;
    if (stopped.status != 0) return stopped;
    const Outcome pages = postgres("pg_checksums", {"--check", "-D", data});
    return pages.status == 0 ? checked : pages;
  }

  static constexpr const char* kTransactions = "select count(*) from pgbench_history";
  static constexpr auto kForAll = static_cast<std::filesystem::perms>(0755);
  std::filesystem::path programs_;

 private:
  Outcome check_tables(const std::string& data) {
    const Outcome indexes = postgres(
        "pg_amcheck", {"-h", socket_of(data), "--install-missing", "--heapallindexed", "postgres"});
    if (indexes.status != 0) return indexes;
    const Outcome sums =
        query(data,  // as pgbench's transactions leave them
              "select sum(delta) = (select sum(abalance) from pgbench_accounts) and "
              "sum(delta) = (select sum(tbalance) from pgbench_tellers) and "
              "sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history");
    if (sums.out != "t\n") return {.status = 1, .out = "the sums differ", .err = sums.err};
    return query(data, kTransactions);
  }

  std::set<std::string> started_;
};

TEST_F(PostgresTest, StartsInAnyEpoch) {
  const std::string cluster = data() + "/pg";
  establish();
  make_directory(cluster);
  ASSERT_EQ(run({.argv = {"chown", "postgres:postgres", cluster}}, Host::kPatience).status, 0);
  // Small segments of the log are renamed and reused all the time.
  Outcome outcome = postgres(
      "initdb", {"-D", cluster, "--data-checksums", "--wal-segsize=1", "--no-sync", "-A", "trust"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  // Next to no cache: pages are written as soon as the log allows, and one that is newer than the
  // log is noticed. Each write is in an epoch or is not, so no page can be torn.
  outcome = start(cluster, "-c max_wal_size=16MB -c shared_buffers=384kB -c full_page_writes=off");
  ASSERT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  outcome = postgres("pgbench", {"-h", socket_of(cluster), "-i", "-q", "-s", "2", "postgres"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  Background clients(as_postgres(
      "pgbench", {"-h", socket_of(cluster), "-n", "-c", "4", "-T", "3600", "postgres"}));
  const auto done = [&] {
    if (!clients.running()) throw Failure(clients.said());
    return std::strtoull(query(cluster, kTransactions).out.c_str(), nullptr, 10);
  };
  check_epochs(done, [&](const std::string& crashed) { return check(crashed + "/pg"); });
  clients.kill();
  EXPECT_EQ(stop(cluster, "immediate").status, 0);
  EXPECT_TRUE(replica().becomes_equal());
}

}  // namespace
}  // namespace epochfs::testing
