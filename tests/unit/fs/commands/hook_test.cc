// Hook: does the command run as it should, and is nothing of it left when it takes too long?
#include "fs/commands/hook.h"

#include <signal.h>

#include <thread>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;
using namespace std::chrono_literals;

class HookTest : public ::testing::Test {
 protected:
  Result<void> run(const std::string& command, std::chrono::milliseconds timeout = 60s,
                   std::chrono::milliseconds grace = 60s, bool end_early = true) {
    return run_hook({.name = "--before",
                     .command = "cd " + dir_.path() + " || exit 9\n" + command,
                     .environment = environment_,
                     .timeout = timeout,
                     .grace = grace},
                    signals_, end_early);
  }
  std::string file(const std::string& name) const { return read_file_if_there(dir_ / name); }
  // The process whose number is in the file.
  bool lives(const std::string& name) const {
    const int pid = std::atoi(file(name).c_str());
    EXPECT_GT(pid, 1) << name;
    return ::kill(pid, 0) == 0;
  }

  TemporaryDirectory dir_;
  HeldSignals signals_;
  std::map<std::string, std::string> environment_;
};

TEST_F(HookTest, RunsInTheShellWithItsEnvironment) {
  environment_ = {{"EPOCHFS_EPOCH", "7"}, {"EPOCHFS_MOUNTPOINT", "/srv/a b"}, {"HOME", "none"}};
  EXPECT_OK(
      run("printf '%s|%s|%s|' \"$EPOCHFS_EPOCH\" \"$EPOCHFS_MOUNTPOINT\" \"$HOME\" >a && "
          "test -n \"$PATH\" && cat >>a"));
  EXPECT_EQ(file("a"), "7|/srv/a b|none|") << "and there is nothing to read";
}

TEST_F(HookTest, WhatItPrintsGoesToStderr) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  EXPECT_OK(run("echo one; echo two >&2"));
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "one\ntwo\n");
}

TEST_F(HookTest, AStatusIsAFailureThatNamesIt) {
  auto ended = run("exit 3");
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message(), "--before: the command ended with status 3");
  EXPECT_EQ(ended.error().status, ExitStatus::kFailed);
  EXPECT_EQ(run("kill -SEGV $$").error().message(), "--before: the command was ended by SIGSEGV");
  EXPECT_EQ(run("/no/such/program 2>/dev/null").error().message(),
            "--before: the command ended with status 127");
}

TEST_F(HookTest, ATimeoutEndsItWithItsChildren) {
  auto late = run("echo $$ >shell; sleep 1000 & echo $! >child; wait", 300ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().status, ExitStatus::kTimedOut);
  EXPECT_EQ(late.error().message(),
            "--before: the command did not end within 0.3 s, and was ended");
  EXPECT_FALSE(lives("shell"));
  EXPECT_FALSE(lives("child"));
}

// The shell ends at once, its child wants some time.
TEST_F(HookTest, ChildrenHaveTheWholeGrace) {
  auto late =
      run("(trap 'sleep 0.3; echo tidy >done; exit' TERM; while :; do sleep 0.01; done) & "
          "wait",
          300ms);
  EXPECT_EQ(late.error().status, ExitStatus::kTimedOut);
  EXPECT_EQ(file("done"), "tidy\n");
}

TEST_F(HookTest, WhoDoesNotListenIsKilled) {
  auto late =
      run("trap '' TERM; echo $$ >shell; (echo ready >a; while :; do sleep 1000; done) & "
          "echo $! >child; while :; do sleep 1000; done",
          300ms, 200ms);
  EXPECT_EQ(late.error().status, ExitStatus::kTimedOut);
  EXPECT_FALSE(lives("shell"));
  EXPECT_FALSE(lives("child"));
}

TEST_F(HookTest, WhatItLeavesInTheBackgroundGoesOn) {
  EXPECT_OK(run("sleep 1000 & echo $! >child"));
  EXPECT_TRUE(lives("child"));
  ::kill(std::atoi(file("child").c_str()), SIGKILL);
}

TEST_F(HookTest, ASignalEndsItEarly) {
  std::thread sender([] {
    std::this_thread::sleep_for(100ms);
    ::kill(::getpid(), SIGTERM);
  });
  auto ended = run("echo $$ >shell; sleep 1000");
  sender.join();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message(), "--before: the command was ended, since SIGTERM came");
  EXPECT_EQ(signals_.caught(), SIGTERM);
  EXPECT_FALSE(lives("shell"));
  // The last words are said all the same, and with no signal blocked.
  EXPECT_OK(
      run("sleep 0.1; echo done >done; (kill -TERM $(exec sh -c 'echo $PPID'); "
          "echo survived >survived); :",
          60s, 60s, false));
  EXPECT_EQ(file("done"), "done\n");
  EXPECT_EQ(file("survived"), "");
}

TEST(HeldSignals, LeavesAloneWhatIsIgnored) {
  ::signal(SIGHUP, SIG_IGN);
  {
    HeldSignals signals;
    ::kill(::getpid(), SIGHUP);
    EXPECT_EQ(signals.caught(), 0);
  }
  ::signal(SIGHUP, SIG_DFL);
}

}  // namespace
}  // namespace epochfs::fs
