// `epochfs barrier` in a script: is the epoch sealed when the command says so, does it get
// its label, and do the commands before and after run as they should?
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <sstream>

#include "schema/control.capnp.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"

namespace epochfs::testing {
namespace {

class BarrierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    host_ = std::make_unique<Host>("b");
    data_ = host_->make_directory("data");
    host_->mount(data_);
  }

  static Arguments words(Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Outcome barrier(const Arguments& more = {}) const {
    return host_->epochfs(words({"barrier", data_}, more));
  }
  // A hook that adds a line with these values of its environment to a file outside.
  std::string note(const std::string& who) const {
    return "echo \"" + who +
           " ${EPOCHFS_EPOCH-unset} ${EPOCHFS_BARRIER_STATUS-unset} "
           "$EPOCHFS_MOUNTPOINT\" >>" +
           notes();
  }
  std::string notes() const { return *host_ / "notes"; }
  std::string noted(const std::string& who, const std::string& epoch,
                    const std::string& status) const {
    return who + " " + epoch + " " + status + " " + data_ + "\n";
  }
  // Number and label of each sealed epoch.
  std::string epochs(const std::string& journal) const {
    std::istringstream lines(host_->must({"journal", "epochs", journal, "--json"}));
    std::string out;
    capnp::JsonCodec json;
    json.handleByAnnotation<rpc::JournalEpoch>();
    for (std::string line; std::getline(lines, line);) {
      capnp::MallocMessageBuilder message;
      auto epoch = message.initRoot<rpc::JournalEpoch>();
      json.decode(kj::ArrayPtr<const char>(line.data(), line.size()), epoch);
      if (epoch.getState() == "open") continue;
      out += std::to_string(epoch.getEpoch()) + ":" + epoch.asReader().getLabel().cStr() + "\n";
    }
    return out;
  }

  std::unique_ptr<Host> host_;
  std::string data_;
};

TEST_F(BarrierTest, ALabelSurvivesARemountAndAKill) {
  EXPECT_EQ(host_->must({"barrier", data_, "--label", "before the upgrade"}), "1");
  EXPECT_EQ(host_->must({"barrier", data_}), "2");
  host_->kill_mount(data_);
  host_->unmount(data_);
  host_->mount(data_);
  EXPECT_EQ(host_->must({"barrier", data_, "--label", "nothing \\ \"changed\""}), "3");
  const std::string all = "1:before the upgrade\n2:\n3:nothing \\ \"changed\"\n";
  EXPECT_EQ(epochs(data_), all);
  const std::string shown = host_->must({"journal", "epochs", data_, "--epoch", "..3"});
  EXPECT_NE(shown.find("  label:before the upgrade\n"), std::string::npos) << shown;
  EXPECT_TRUE(shown.ends_with("  label:nothing \\\\ \"changed\"")) << shown;
  const std::string journal = host_->journal(data_);
  host_->unmount(data_);
  EXPECT_EQ(epochs(journal), all);
  EXPECT_EQ(host_->epochfs({"journal", "verify", journal}).status, 0);
}

TEST_F(BarrierTest, WhatIsNoLabelIsRefusedBeforeAnythingRuns) {
  const std::string texts[] = {"", std::string(256, 'x'), "a\nb", "\x1b[2J", "\xff"};
  for (const std::string& text : texts) {
    const Outcome outcome = barrier({"--label", text, "--before", note("before")});
    EXPECT_EQ(outcome.status, 2) << text;
    EXPECT_NE(outcome.err.find("label an epoch: the text"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(epochs(data_), "");
  EXPECT_NE(::access(notes().c_str(), F_OK), 0);
}

// What --before makes an application write is in the epoch.
TEST_F(BarrierTest, HooksRunInOrderAroundTheCut) {
  const Outcome outcome =
      barrier({"--before", note("before") + "; echo flushed >\"$EPOCHFS_MOUNTPOINT/f\"; echo said",
               "--after", note("after") + "; echo later >\"$EPOCHFS_MOUNTPOINT/g\"; echo too"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "1\n") << "nothing but the number";
  EXPECT_NE(outcome.err.find("said\n"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("too\n"), std::string::npos) << outcome.err;
  EXPECT_EQ(read_whole_file(notes()), noted("before", "unset", "unset") + noted("after", "1", "0"));
  const Arguments list = {"journal", "list", data_, "--type", "create", "--epoch"};
  EXPECT_TRUE(host_->must(words(list, {"1"})).ends_with("  f"));
  EXPECT_TRUE(host_->must(words(list, {"2"})).ends_with("  g"));
}

TEST_F(BarrierTest, WhenTheHookBeforeFailsNothingIsSealed) {
  Outcome outcome = barrier({"--before", "exit 4", "--after", note("after")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("--before: the command ended with status 4"), std::string::npos)
      << outcome.err;
  EXPECT_EQ(read_whole_file(notes()), noted("after", "", "1"));

  outcome = barrier({"--before", "sleep 1000", "--after", note("late"), "--hook-timeout", "1"});
  EXPECT_EQ(outcome.status, 8);
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(read_whole_file(notes()).ends_with(noted("late", "", "8")));
  EXPECT_EQ(epochs(data_), "");
}

TEST_F(BarrierTest, AHookBeforeThatDoesNotExistIsNamed) {
  const Outcome outcome = barrier({"--before", "no-such-command --flush"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("no-such-command"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("epochfs: --before: "), std::string::npos) << outcome.err;
  EXPECT_EQ(epochs(data_), "");
}

TEST_F(BarrierTest, WhenTheHookAfterFailsTheEpochIsSealed) {
  for (const char* command : {"exit 4", "sleep 1000"}) {
    const Outcome outcome = barrier({"--after", command, "--hook-timeout", "1"});
    EXPECT_EQ(outcome.status, 3) << outcome.err;
    EXPECT_NE(outcome.err.find("--after: the command"), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(epochs(data_), "1:\n2:\n");
  const Outcome both = barrier({"--before", "exit 1", "--after", "exit 2"});
  EXPECT_EQ(both.status, 1) << "the first failure counts";
  EXPECT_NE(both.err.find("--after: "), std::string::npos) << both.err;
}

TEST_F(BarrierTest, AnInterruptedCommandRunsTheHookAfter) {
  for (int number : {SIGINT, SIGTERM}) {
    Background command(host_->command(
        {"barrier", data_, "--before", "echo begun; sleep 1000", "--after", note("after")}));
    ASSERT_TRUE(command.wait_for_line("begun", Host::kPatience));
    command.signal(number);
    EXPECT_EQ(command.wait(Host::kPatience), 128 + number) << command.said();
    EXPECT_TRUE(
        read_whole_file(notes()).ends_with(noted("after", "", std::to_string(128 + number))));
  }
  EXPECT_EQ(epochs(data_), "");
}

TEST_F(BarrierTest, WithoutAMountNoHookRuns) {
  host_->unmount(data_);
  const Outcome outcome = barrier({"--before", note("before"), "--after", note("after")});
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(::access(notes().c_str(), F_OK), 0);
}

// The consistency point as a script has it: cut, then wait for the number.
class BarrierOfAReplica : public TwoHosts {};

TEST_F(BarrierOfAReplica, TheNumberCanBeWaitedFor) {
  establish();
  write_file(data() + "/file", "one");
  const std::string epoch = a().must({"barrier", data(), "--label", "nightly"});
  a().must({"wait", replica().id(), "--epoch", epoch});
  EXPECT_EQ(read_whole_file(copy() + "/file"), "one");
  EXPECT_GE(replica().status().recovery_epoch, std::stoull(epoch));
}

}  // namespace
}  // namespace epochfs::testing
