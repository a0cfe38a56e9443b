// Does one broken thing fail alone? A damaged file, a process that does not answer or a limit of
// the shell must take down neither the daemon nor the mount, and people are told of it.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr int kEndedByBrokenPipe = 128 + SIGPIPE;

class AloneTest : public TwoHosts {
 protected:
  static std::string record(const Host& host, const std::string& id) {
    return host.state() + "/relationships/" + id + ".json";
  }
  // Runs `script` of bash with the words of a command as "$@".
  static Outcome in_bash(const std::string& script, const Command& command) {
    Command wrapped = command;
    wrapped.argv = {"bash", "-c", script, "bash"};
    wrapped.argv.insert(wrapped.argv.end(), command.argv.begin(), command.argv.end());
    return run(wrapped, Host::kPatience);
  }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at; (at = text.find(from)) != text.npos;) text.replace(at, from.size(), to);
  return text;
}

// ---- damaged relationships ----

// The value of "timeZone", with its quotes.
std::string zone_of(const std::string& record) {
  const size_t key = record.find("\"timeZone\"");
  const size_t begin = record.find('"', record.find(':', key));
  return record.substr(begin, record.find('"', begin + 1) + 1 - begin);
}

TEST_F(AloneTest, DamagedRelationshipsAreNamedAndTheOthersRun) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  a().stop_daemon();
  const std::string sound = read_whole_file(record(a(), replica().id()));
  const std::string empty = "000000000001", long_one = "000000000002", zone = "000000000003";
  write_file(record(a(), empty), "");
  write_file(record(a(), long_one), sound + std::string(64 << 10, ' '));
  const std::string of_no_zone =
      replaced(replaced(sound, replica().id(), zone), zone_of(sound), "\"US/Pacific-New\"");
  write_file(record(a(), zone), of_no_zone);
  a().start_daemon();

  write_file(data() + "/file", "goes on");
  EXPECT_TRUE(replica().becomes_equal());
  replica().await_state("Up to Date");
  EXPECT_EQ(replica().status().exit_status, 0);
  EXPECT_EQ(a().epochfs({"status"}).status, 3);
  const Outcome list = a().epochfs({"relationship", "list"});
  EXPECT_EQ(list.status, 3);
  for (const std::string& id : {empty, long_one, zone}) {
    const ReplicaStatus status = status_of(a(), id);
    EXPECT_EQ(status.state, "Damaged");
    EXPECT_EQ(status.exit_status, 3);
    EXPECT_NE(status.detail.find(record(a(), id)), std::string::npos) << status.detail;
    EXPECT_NE(list.out.find(id), std::string::npos) << list.out;
    EXPECT_NE(a().daemon_said().find(record(a(), id)), std::string::npos);
    EXPECT_EQ(a().epochfs({"relationship", "disable", id}).status, 1);
    EXPECT_EQ(a().epochfs({"relationship", "show", id}).status, 3);
  }
  EXPECT_EQ(read_whole_file(record(a(), zone)), of_no_zone);

  for (const std::string& id : {empty, long_one, zone}) {
    a().must({"relationship", "delete", id, "--yes"});
    EXPECT_FALSE(std::filesystem::exists(record(a(), id)));
  }
  EXPECT_EQ(a().epochfs({"status"}).status, 0);
}

// A target that cannot read what it agreed to must not say that it never did.
TEST_F(AloneTest, ARelationshipDamagedOnTheTargetGoesOnOnceItIsRepaired) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  b().stop_daemon();
  const std::string path = record(b(), replica().id()), sound = read_whole_file(path);
  write_file(path, "");
  b().start_daemon();
  write_file(data() + "/file", "waits");
  eventually("the source says why",
             [&] { return replica().status().last_error.find("is damaged") != std::string::npos; });
  EXPECT_EQ(replica().target_status().state, "Damaged");
  EXPECT_EQ(read_whole_file(path), "");

  b().stop_daemon();
  write_file(path, sound);
  b().start_daemon();
  EXPECT_TRUE(replica().becomes_equal());
}

// ---- files that are not ours ----

TEST_F(AloneTest, ServeLeavesAFileAloneThatIsNoSocket) {
  const std::string file = a() / "precious";
  write_file(file, "kept");
  const Outcome outcome = a().epochfs(
      {"serve", "--state", a().state(), "--listen", a().address() + ":0", "--control", file},
      Milliseconds(20'000));
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  EXPECT_NE(outcome.err.find(file), std::string::npos) << outcome.err;
  EXPECT_EQ(read_whole_file(file), "kept");
}

// ---- output that cannot be written ----

TEST_F(AloneTest, OutputThatCannotBeWrittenEndsACommandInOrder) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  const std::string id = replica().id();
  for (const Arguments& arguments : std::vector<Arguments>{
           {"--help"},
           {"--version"},
           {"status"},
           {"status", "--json"},
           {"status", "--watch"},
           {"status", "--help"},
           {"status", data()},
           {"status", data(), "--json"},
           {"relationship", "--help"},
           {"relationship", "list"},
           {"relationship", "list", "--json"},
           {"relationship", "show", id},
           {"relationship", "show", id, "--json"},
           {"barrier", data()},
           {"journal", "list", data()},
           {"journal", "epochs", data()},
           {"journal", "stat", data()},
           {"journal", "verify", data()},
       }) {
    const std::string words = fmt::format("{}", fmt::join(arguments, " "));
    const Outcome gone =
        in_bash("exec 3> >(exec true); wait $!; exec \"$@\" >&3", a().command(arguments));
    EXPECT_EQ(gone.status, kEndedByBrokenPipe) << words << ": " << gone.err;
    EXPECT_EQ(gone.err, "") << words;
    const Outcome full = in_bash("exec \"$@\" > /dev/full", a().command(arguments));
    EXPECT_EQ(full.status, 1) << words;
    EXPECT_NE(full.err.find("standard output"), std::string::npos) << words << ": " << full.err;
  }
}

// ---- limits of the shell ----

constexpr rlimit kOneMegabyte{1'000'000, RLIM_INFINITY}, kNoLimit{RLIM_INFINITY, RLIM_INFINITY};
const std::string kTwoMegabytes(2'000'000, 'x');

// Whether the bytes could be written.
bool try_to_write(const std::string& path, const std::string& bytes) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  return fd && pwrite_full(fd.get(), bytes.data(), bytes.size(), 0, path).has_value();
}

TEST_F(AloneTest, AMountIsNotBoundByTheFileSizeLimitOfItsShell) {
  const Outcome mounted = in_bash("ulimit -Sf 1000; exec \"$@\"",
                                  a().command({"mount", data(), "--state", a().state()}));
  ASSERT_EQ(mounted.status, 0) << mounted.err;
  EXPECT_TRUE(try_to_write(data() + "/file", kTwoMegabytes));
  EXPECT_EQ(read_whole_file(data() + "/file"), kTwoMegabytes);
  a().must({"unmount", data()});
}

TEST_F(AloneTest, AFileSizeLimitIsAnErrorAndNoEnd) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  const pid_t target = b().daemon_process();
  ASSERT_EQ(::prlimit(target, RLIMIT_FSIZE, &kOneMegabyte, nullptr), 0);
  ASSERT_TRUE(try_to_write(data() + "/file", kTwoMegabytes));
  replica().await_state("Failed");
  EXPECT_TRUE(b().daemon_runs());
  ASSERT_EQ(::prlimit(target, RLIMIT_FSIZE, &kNoLimit, nullptr), 0);
  EXPECT_TRUE(replica().becomes_equal());

  const pid_t mount = a().mount_process(data());
  ASSERT_EQ(::prlimit(mount, RLIMIT_FSIZE, &kOneMegabyte, nullptr), 0);
  EXPECT_FALSE(try_to_write(data() + "/other", kTwoMegabytes));
  ASSERT_EQ(::prlimit(mount, RLIMIT_FSIZE, &kNoLimit, nullptr), 0);
  EXPECT_TRUE(try_to_write(data() + "/other", kTwoMegabytes));
  EXPECT_TRUE(replica().becomes_equal());
}

// ---- a mount that does not answer ----

class Stopped {
 public:
  explicit Stopped(pid_t process) : process_(process) { ::kill(process_, SIGSTOP); }
  ~Stopped() { ::kill(process_, SIGCONT); }

 private:
  const pid_t process_;
};

TEST_F(AloneTest, TheDaemonAnswersAndEndsBesideAStoppedMount) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  {
    const Stopped stopped(a().mount_process(data()));
    // More than the mount's socket has room for.
    std::vector<std::unique_ptr<Background>> asking;
    for (int i = 0; i < 100; ++i) {
      asking.push_back(std::make_unique<Background>(a().command({"status"})));
    }
    for (auto& one : asking) EXPECT_TRUE(one->wait(Milliseconds(30'000)));
    EXPECT_EQ(a().epochfs({"relationship", "list"}, Milliseconds(30'000)).status, 0);
    a().stop_daemon();
  }
  a().start_daemon();
  EXPECT_TRUE(replica().becomes_equal());
}

}  // namespace
}  // namespace epochfs::testing
