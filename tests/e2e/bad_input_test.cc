// Does bad input give one clear line that names the thing, the right exit status, and
// nothing else?
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>

#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

// Exit statuses, as DESIGN.md has them.
constexpr int kFailed = 1, kUsage = 2, kNoMatch = 4, kCorrupt = 5, kUnreachable = 6,
              kNotAuthorized = 7, kTimedOut = 8;

// The exit status, nothing on stdout, and one line on stderr that names each of `names`.
::testing::AssertionResult refused(const Outcome& outcome, int status,
                                   const std::vector<std::string>& names) {
  auto failure = [&](const std::string& why) {
    return ::testing::AssertionFailure()
           << why << "\nexit status " << outcome.status << "\nstdout: " << outcome.out
           << "\nstderr: " << outcome.err;
  };
  if (outcome.status != status) return failure(fmt::format("exit status {} expected", status));
  if (!outcome.out.empty()) return failure("there is something on stdout");
  if (!outcome.err.starts_with("epochfs: ")) return failure("no message of ours");
  if (std::count(outcome.err.begin(), outcome.err.end(), '\n') != 1) return failure("not one line");
  for (const std::string& name : names) {
    if (outcome.err.find(name) == std::string::npos) return failure(name + " is not named");
  }
  return ::testing::AssertionSuccess();
}

class BadInputTest : public TwoHosts {
 protected:
  Outcome on_a(const Arguments& arguments) { return a().epochfs(arguments); }
  Outcome mount(const std::string& directory, const Arguments& more = {}) {
    Arguments arguments = {"mount", directory, "--state", a().state()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return on_a(arguments);
  }
  Outcome create(const std::string& source, const Arguments& more = {}) {
    Arguments arguments = {"relationship",     "create",      "--source", source,
                           "--target-address", b().address(), "--target", copy()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return on_a(arguments);
  }
  // One that should not come to serve at all.
  Outcome serve(const Arguments& more) {
    Arguments arguments = {"serve"};
    auto default_to = [&](const char* option, const std::string& value) {
      if (std::find(more.begin(), more.end(), option) != more.end()) return;
      arguments.insert(arguments.end(), {option, value});
    };
    default_to("--state", a().state());
    default_to("--control", a().control());
    default_to("--listen", a().address() + ":0");
    arguments.insert(arguments.end(), more.begin(), more.end());
    return a().epochfs(arguments, Milliseconds(10'000));
  }
  // As another user, who may see the program and the folders.
  Outcome as_nobody(const Arguments& arguments) {
    Command command = a().command(arguments);
    const Arguments prefix = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    command.argv.insert(command.argv.begin(), prefix.begin(), prefix.end());
    return run(command, Host::kPatience);
  }
  bool nobody_can_run_it() { return as_nobody({"--version"}).status == 0; }
  bool nothing_is_listed() { return on_a({"relationship", "list"}).status == kNoMatch; }
};

// ---- mount ----

TEST_F(BadInputTest, MountOfAMissingDirectory) {
  EXPECT_TRUE(refused(mount(a() / "missing"), kFailed, {a() / "missing"}));
  EXPECT_NE(::access((a() / "missing").c_str(), F_OK), 0);
}

TEST_F(BadInputTest, MountOfAFile) {
  write_file(a() / "file", "no directory");
  EXPECT_TRUE(refused(mount(a() / "file"), kFailed, {a() / "file", "directory"}));
}

TEST_F(BadInputTest, MountOfAMissingBackingDirectory) {
  EXPECT_TRUE(refused(mount(data(), {"--backing", a() / "missing"}), kFailed, {a() / "missing"}));
  EXPECT_TRUE(mountpoints_below(a().folder()).empty());
}

TEST_F(BadInputTest, SecondMountOfTheSameDirectory) {
  a().mount(data());
  write_file(data() + "/file", "still there");
  EXPECT_TRUE(refused(mount(data()), kFailed,
                      {data(), "already mounted", std::to_string(a().mount_process(data()))}));
  EXPECT_EQ(mountpoints_below(data()).size(), 1u);
  EXPECT_EQ(read_whole_file(data() + "/file"), "still there");
}

TEST_F(BadInputTest, SecondMountOfTheSameDirectoryElsewhereAndWithAnotherState) {
  const std::string elsewhere = a().make_directory("elsewhere");
  const std::string backing = a().make_directory("backing");
  a().mount(data(), {"--backing", backing});
  EXPECT_TRUE(refused(mount(elsewhere, {"--backing", backing}), kFailed, {"already mounted"}));
  EXPECT_TRUE(
      refused(on_a({"mount", elsewhere, "--backing", backing, "--state", a() / "other-state"}),
              kFailed, {"already mounted"}));
  EXPECT_EQ(mountpoints_below(a().folder()).size(), 1u);
}

TEST_F(BadInputTest, MountWithUnknownOptions) {
  EXPECT_TRUE(refused(mount(data(), {"--no-such-option"}), kUsage, {"--no-such-option"}));
  EXPECT_TRUE(refused(mount(data(), {"-o", "nosuid,no-such-option"}), kUsage, {"no-such-option"}));
  EXPECT_TRUE(refused(mount(data(), {"-o", "ro"}), kUsage, {"ro"}));
  EXPECT_TRUE(refused(mount(data(), {"another"}), kUsage, {"usage"}));
  EXPECT_TRUE(refused(on_a({"mount"}), kUsage, {"usage"}));
  EXPECT_TRUE(mountpoints_below(a().folder()).empty());
  EXPECT_NE(::access(a().state().c_str(), F_OK), 0) << "a state directory was made";
}

TEST_F(BadInputTest, MountWithAStateOfANewerFormat) {
  make_directory(a().state());
  write_file(a().state() + "/format", "epochfs state 999\n");
  EXPECT_TRUE(refused(mount(data()), kFailed, {a().state(), "999"}));
  EXPECT_TRUE(mountpoints_below(a().folder()).empty());
  EXPECT_EQ(snapshot(a().state()).size(), 2u) << "something was added to the newer state";
}

TEST_F(BadInputTest, MountWithAStateThatIsNone) {
  make_directory(a().state());
  write_file(a().state() + "/format", "something else\n");
  EXPECT_TRUE(refused(mount(data()), kFailed, {a().state()}));
}

TEST_F(BadInputTest, MountWithAJournalOfANewerFormat) {
  a().mount(data());
  const std::string journal = a().journal(data());
  a().unmount(data());
  UniqueFd fd(::open((journal + "/volume").c_str(), O_WRONLY | O_CLOEXEC));
  const uint32_t version = 999;  // behind the magic
  ASSERT_EQ(::pwrite(fd.get(), &version, sizeof version, 8), ssize_t(sizeof version));
  const TreeSnapshot before = snapshot(a().state());
  EXPECT_TRUE(refused(mount(data()), kFailed, {journal, "999"}));
  EXPECT_TRUE(same_tree(before, snapshot(a().state())));
}

TEST_F(BadInputTest, MountWithAForeignJournal) {
  const std::string other = a().make_directory("other");
  a().mount(other);
  const std::string journal = a().journal(other);
  a().unmount(other);
  const TreeSnapshot before = snapshot(journal);
  EXPECT_TRUE(refused(mount(data(), {"--journal", journal}), kFailed, {journal, other}));
  EXPECT_TRUE(same_tree(before, snapshot(journal)));
  EXPECT_TRUE(mountpoints_below(a().folder()).empty());
}

TEST_F(BadInputTest, MountWithAJournalFolderThatHoldsSomethingElse) {
  const std::string folder = a().make_directory("folder");
  write_file(folder + "/something", "else");
  const TreeSnapshot before = snapshot(folder);
  EXPECT_TRUE(refused(mount(data(), {"--journal", folder}), kFailed, {folder}));
  EXPECT_TRUE(same_tree(before, snapshot(folder)));
}

TEST_F(BadInputTest, MountWithADamagedVolumeFile) {
  a().mount(data());
  const std::string journal = a().journal(data());
  a().unmount(data());
  write_file(journal + "/volume", "no volume");
  EXPECT_TRUE(refused(mount(data()), kCorrupt, {journal}));
}

TEST_F(BadInputTest, MountWithItsJournalInside) {
  EXPECT_TRUE(refused(on_a({"mount", data(), "--state", data() + "/state"}), kFailed,
                      {data() + "/state", "--state"}));
  EXPECT_EQ(snapshot(data()).size(), 1u) << "something was made in the directory";
}

TEST_F(BadInputTest, MountWithoutDevFuse) {
  // In a mount namespace of its own, where /dev is empty.
  Command command = a().command({"mount", data(), "--state", a().state()});
  const Arguments prefix = {"unshare",
                            "--mount",
                            "--propagation",
                            "private",
                            "sh",
                            "-c",
                            "mount -t tmpfs none /dev && exec \"$0\" \"$@\""};
  command.argv.insert(command.argv.begin(), prefix.begin(), prefix.end());
  const Outcome outcome = run(command, Host::kPatience);
  if (outcome.err.find("unshare:") != std::string::npos) GTEST_SKIP() << outcome.err;
  EXPECT_TRUE(refused(outcome, kFailed, {"/dev/fuse"}));
  EXPECT_NE(::access(a().state().c_str(), F_OK), 0) << "a state directory was made";
}

TEST_F(BadInputTest, MountWithoutPrivilege) {
  if (!nobody_can_run_it()) GTEST_SKIP() << "another user cannot run the program";
  EXPECT_TRUE(refused(as_nobody({"mount", data(), "--state", a() / "state"}), kNotAuthorized,
                      {data(), "--state"}));
  EXPECT_NE(::access(a().state().c_str(), F_OK), 0) << "a state directory was made";
}

TEST_F(BadInputTest, UnmountOfWhatIsNotMounted) {
  EXPECT_TRUE(refused(on_a({"unmount", data()}), kFailed, {data()}));
  EXPECT_TRUE(refused(on_a({"unmount", a() / "missing"}), kFailed, {a() / "missing"}));
  EXPECT_TRUE(refused(on_a({"unmount", "/proc"}), kFailed, {"/proc"}));
}

TEST_F(BadInputTest, UnmountOfWhatIsInUse) {
  a().mount(data());
  write_file(data() + "/file", "held open");
  UniqueFd held(::open((data() + "/file").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(refused(on_a({"unmount", data()}), kFailed, {data(), std::to_string(::getpid())}));
  EXPECT_EQ(read_whole_file(data() + "/file"), "held open");
}

TEST_F(BadInputTest, BarrierOfWhatIsNotMounted) {
  EXPECT_TRUE(refused(on_a({"barrier", data()}), kFailed, {data()}));
  EXPECT_TRUE(refused(on_a({"barrier", a() / "missing"}), kFailed, {a() / "missing"}));
}

TEST_F(BadInputTest, JournalOfWhatHasNone) {
  EXPECT_TRUE(refused(on_a({"journal", "list", data()}), kFailed, {data()}));
  EXPECT_TRUE(refused(on_a({"journal", "list", a() / "missing"}), kFailed, {a() / "missing"}));
  EXPECT_TRUE(refused(on_a({"journal", "list", data(), "--epoch", "3..2"}), kUsage, {"3..2"}));
  EXPECT_TRUE(refused(on_a({"journal", "no-such-thing"}), kUsage, {"no-such-thing"}));
}

// ---- serve ----

TEST_F(BadInputTest, ServeWithBadAddresses) {
  for (const char* listen : {"127.0.0.1:65536", "127.0.0.1:abc", "127.0.0.1:-1",
                             "127.0.0.1:", "no-address", "[::1:3712"}) {
    EXPECT_TRUE(refused(serve({"--state", a().state(), "--listen", listen}), kUsage, {listen}));
  }
  EXPECT_NE(::access(a().state().c_str(), F_OK), 0) << "a state directory was made";
}

TEST_F(BadInputTest, ServeWithUnknownOptions) {
  EXPECT_TRUE(refused(serve({"--no-such-option"}), kUsage, {"--no-such-option"}));
  EXPECT_TRUE(refused(serve({"argument"}), kUsage, {"usage"}));
}

TEST_F(BadInputTest, ServeWithAStateOfANewerFormat) {
  make_directory(a().state());
  write_file(a().state() + "/format", "epochfs state 999\n");
  EXPECT_TRUE(refused(serve({"--state", a().state()}), kFailed, {a().state(), "999"}));
  EXPECT_EQ(snapshot(a().state()).size(), 2u) << "something was added to the newer state";
}

TEST_F(BadInputTest, SecondDaemonOfOneState) {
  a().start_daemon();
  EXPECT_TRUE(refused(serve({"--state", a().state(), "--control", a() / "other.sock"}), kFailed,
                      {a().state()}));
  EXPECT_EQ(on_a({"relationship", "list"}).status, kNoMatch) << "the first one does not answer";
}

TEST_F(BadInputTest, SecondDaemonOnOnePort) {
  a().start_daemon();
  const std::string port = std::to_string(a().port());
  EXPECT_TRUE(refused(serve({"--state", a() / "other", "--control", a() / "other.sock", "--listen",
                             a().address() + ":" + port}),
                      kFailed, {port, std::strerror(EADDRINUSE)}));
}

TEST_F(BadInputTest, SecondDaemonOnOneControlSocket) {
  a().start_daemon();
  EXPECT_TRUE(refused(serve({"--state", a() / "other"}), kFailed, {a().control()}));
  EXPECT_EQ(on_a({"relationship", "list"}).status, kNoMatch) << "the first one does not answer";
}

// ---- relationship create ----

TEST_F(BadInputTest, SourceIsMissing) {
  a().start_daemon();
  EXPECT_TRUE(refused(create(a() / "missing"), kFailed, {a() / "missing"}));
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, SourceIsAFile) {
  a().start_daemon();
  write_file(a() / "file", "no directory");
  EXPECT_TRUE(refused(create(a() / "file"), kFailed, {a() / "file", "directory"}));
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, SourceIsNotMounted) {
  a().start_daemon();
  EXPECT_TRUE(refused(create(data()), kFailed, {data(), "epochfs mount"}));
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, SourceIsBelowAMount) {
  a().start_daemon();
  a().mount(data());
  make_directory(data() + "/below");
  EXPECT_TRUE(refused(create(data() + "/below"), kFailed, {data() + "/below"}));
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, PortsOutOfRange) {
  a().start_daemon();
  a().mount(data());
  for (const char* port : {"0", "65536", "abc", "-1", "", "99999999999999999999", "80x"}) {
    EXPECT_TRUE(refused(create(data(), {"--port", port}), kUsage, {"--port"})) << port;
  }
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, IntervalsOutOfRange) {
  a().start_daemon();
  a().mount(data());
  for (const char* interval : {"0", "0.05", "86401", "-1", "nan", "inf", "soon", ""}) {
    EXPECT_TRUE(refused(create(data(), {"--interval", interval}), kUsage, {"--interval"}))
        << interval;
  }
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, OptionsThatAreUnknownOrMissing) {
  a().start_daemon();
  a().mount(data());
  EXPECT_TRUE(refused(create(data(), {"--no-such-option"}), kUsage, {"--no-such-option"}));
  EXPECT_TRUE(refused(on_a({"relationship", "create", "--source", data()}), kUsage, {"--target"}));
  EXPECT_TRUE(refused(on_a({"relationship", "create", "--source", data(), "--target-address",
                            "not a host", "--target", copy()}),
                      kUsage, {"not a host"}));
  EXPECT_TRUE(refused(on_a({"relationship", "create", "--source", data(), "--target-address",
                            b().address(), "--target", "relative"}),
                      kUsage, {"relative"}));
  EXPECT_TRUE(nothing_is_listed());
}

TEST_F(BadInputTest, TheSameRelationshipTwice) {
  start_daemons();
  a().mount(data());
  replica().create();
  EXPECT_TRUE(refused(on_a(replica().create_arguments()), kFailed, {replica().id()}));
}

// ---- authorize ----

TEST_F(BadInputTest, TargetIsNotEmpty) {
  start_daemons();
  a().mount(data());
  write_file(copy() + "/precious", "kept");
  replica().create();
  replica().await_proposal();
  EXPECT_TRUE(refused(b().epochfs({"relationship", "authorize", replica().id()}), kFailed,
                      {copy(), "not empty"}));
  EXPECT_EQ(replica().target_status().state, "Awaiting Authorization");
  EXPECT_EQ(read_whole_file(copy() + "/precious"), "kept");
}

TEST_F(BadInputTest, TargetIsMissingOrAFile) {
  start_daemons();
  a().mount(data());
  replica().create();
  replica().await_proposal();
  ASSERT_EQ(::rmdir(copy().c_str()), 0);
  EXPECT_TRUE(refused(b().epochfs({"relationship", "authorize", replica().id()}), kFailed,
                      {copy(), "does not exist"}));
  write_file(copy(), "a file");
  EXPECT_TRUE(refused(b().epochfs({"relationship", "authorize", replica().id()}), kFailed,
                      {copy(), std::strerror(ENOTDIR)}));
  EXPECT_EQ(read_whole_file(copy()), "a file");
}

TEST_F(BadInputTest, TargetIsASymbolicLink) {
  start_daemons();
  a().mount(data());
  replica().create();
  replica().await_proposal();
  const std::string elsewhere = b().make_directory("elsewhere");
  ASSERT_EQ(::rmdir(copy().c_str()), 0);
  ASSERT_EQ(::symlink(elsewhere.c_str(), copy().c_str()), 0);
  EXPECT_TRUE(
      refused(b().epochfs({"relationship", "authorize", replica().id()}), kFailed, {copy()}));
}

TEST_F(BadInputTest, DecisionsOnTheWrongHost) {
  start_daemons();
  a().mount(data());
  replica().create();
  replica().await_proposal();
  EXPECT_TRUE(refused(on_a({"relationship", "authorize", replica().id()}), kUsage,
                      {replica().id(), "target"}));
  EXPECT_TRUE(refused(b().epochfs({"relationship", "disable", replica().id()}), kUsage,
                      {replica().id(), "source"}));
  EXPECT_EQ(replica().state(), "Awaiting Authorization");
}

// ---- commands about relationships ----

const std::vector<Arguments> kOnAnId = {
    {"relationship", "show"},
    {"relationship", "authorize"},
    {"relationship", "decline"},
    {"relationship", "enable"},
    {"relationship", "disable"},
    {"relationship", "edit"},
    {"relationship", "replicate"},
    {"relationship", "delete", "--yes"},
    {"status"},
    {"wait"},
};

TEST_F(BadInputTest, UnknownId) {
  a().start_daemon();
  for (Arguments arguments : kOnAnId) {
    arguments.push_back("0123456789ab");
    EXPECT_TRUE(refused(on_a(arguments), kNoMatch, {"0123456789ab"})) << arguments.back();
  }
}

TEST_F(BadInputTest, NoDaemon) {
  for (Arguments arguments : kOnAnId) {
    arguments.push_back("0123456789ab");
    EXPECT_TRUE(refused(on_a(arguments), kUnreachable, {a().control(), "epochfs serve"}));
  }
  EXPECT_TRUE(refused(create(data()), kUnreachable, {a().control(), "epochfs serve"}));
  EXPECT_TRUE(refused(on_a({"relationship", "list"}), kUnreachable, {a().control()}));
  // Nor one that was killed, whose socket is still there.
  a().start_daemon();
  a().kill_daemon();
  EXPECT_TRUE(
      refused(on_a({"relationship", "list"}), kUnreachable, {a().control(), "epochfs serve"}));
}

TEST_F(BadInputTest, NobodyMayNotTalkToTheDaemon) {
  if (!nobody_can_run_it()) GTEST_SKIP() << "another user cannot run the program";
  a().start_daemon();
  EXPECT_TRUE(refused(as_nobody({"relationship", "list"}), kNotAuthorized, {a().control()}));
}

TEST_F(BadInputTest, NobodyMayNotCutEpochsOrReadTheJournal) {
  if (!nobody_can_run_it()) GTEST_SKIP() << "another user cannot run the program";
  a().mount(data());
  EXPECT_TRUE(refused(as_nobody({"barrier", data()}), kNotAuthorized, {data()}));
  EXPECT_TRUE(refused(as_nobody({"journal", "list", data()}), kNotAuthorized, {}));
}

TEST_F(BadInputTest, WaitIsTimedOut) {
  start_daemons();
  a().mount(data());
  replica().create();
  EXPECT_TRUE(
      refused(on_a({"wait", replica().id(), "--timeout", "0.2"}), kTimedOut, {replica().id()}));
  replica().await_proposal();
  replica().authorize();
  a().must({"wait", replica().id(), "--timeout", "60"});
  EXPECT_TRUE(refused(on_a({"wait", replica().id(), "--epoch", "1000000", "--timeout", "0.2"}),
                      kTimedOut, {replica().id()}));
}

TEST_F(BadInputTest, WaitWithBadNumbers) {
  a().start_daemon();
  for (const char* text : {"0", "-1", "", "x", "5s", "nan", "inf", "-inf", "1e99", "1000000001"}) {
    EXPECT_TRUE(refused(on_a({"wait", "0123456789ab", "--timeout", text}), kUsage, {"--timeout"}))
        << text;
  }
  for (const char* text : {"0", "-1", "", "x", "1.5", "nan", "1e3", "18446744073709551616"}) {
    EXPECT_TRUE(refused(on_a({"wait", "0123456789ab", "--epoch", text}), kUsage, {"--epoch"}))
        << text;
  }
  EXPECT_TRUE(refused(on_a({"wait", "0123456789ab", "--epoch", "1", "--idle"}), kUsage,
                      {"--epoch", "--idle"}));
  // The largest ones are none of them.
  for (const Arguments& more :
       {Arguments{"--timeout", "1000000000"}, Arguments{"--epoch", "18446744073709551615"}}) {
    EXPECT_EQ(on_a({"wait", "0123456789ab", more[0], more[1]}).status, kNoMatch) << more[0];
  }
}

TEST_F(BadInputTest, BarrierWithBadTimes) {
  a().mount(data());
  for (const char* option : {"--timeout", "--hook-timeout"}) {
    for (const char* text :
         {"0", "-1", "", "x", "0.5", "nan", "1e99", "86401", "18446744073709551616"}) {
      EXPECT_TRUE(refused(on_a({"barrier", data(), option, text}), kUsage, {option})) << text;
    }
  }
  EXPECT_EQ(a().must({"barrier", data(), "--timeout", "86400", "--hook-timeout", "86400"}), "1")
      << "one that was refused cut an epoch";
}

TEST_F(BadInputTest, BarrierOfAMountThatDied) {
  a().mount(data());
  a().kill_mount(data());
  EXPECT_TRUE(refused(on_a({"barrier", data()}), kUnreachable, {data(), "epochfs mount"}));
}

// ---- and everywhere ----

TEST_F(BadInputTest, UnknownCommands) {
  EXPECT_TRUE(refused(on_a({"no-such-command"}), kUsage, {"no-such-command"}));
  EXPECT_TRUE(refused(on_a({"relationship", "no-such-command"}), kUsage, {"no-such-command"}));
  EXPECT_EQ(on_a({}).status, kUsage);
  EXPECT_EQ(on_a({"relationship"}).status, kUsage);
}

TEST_F(BadInputTest, HelpIsOnStdout) {
  std::vector<Arguments> commands = {{},
                                     {"mount"},
                                     {"unmount"},
                                     {"serve"},
                                     {"barrier"},
                                     {"relationship"},
                                     {"relationship", "create"},
                                     {"relationship", "list"},
                                     {"journal"},
                                     {"journal", "list"}};
  commands.insert(commands.end(), kOnAnId.begin(), kOnAnId.end());
  for (Arguments arguments : commands) {
    arguments.push_back("--help");
    const Outcome outcome = on_a(arguments);
    const std::string what = as_typed(a().command(arguments));
    EXPECT_EQ(outcome.status, 0) << what;
    EXPECT_NE(outcome.out.find("usage: epochfs"), std::string::npos) << what;
    EXPECT_EQ(outcome.err, "") << what;
  }
}

}  // namespace
}  // namespace epochfs::testing
