// When does `epochfs wait` return, with which status, and what does it say then?
#include <kj/async-io.h>

#include "journal/control/unix_rpc.h"
#include "schema/control.capnp.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr int kTimedOut = 8;

class WaitTest : public TwoHosts {
 protected:
  Arguments words(const Arguments& more) {
    Arguments arguments = {"wait", replica().id()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Outcome wait(const Arguments& more) { return a().epochfs(words(more)); }
  int wait_status(const Host& host) { return host.epochfs(words({})).status; }

  // Polls, since states come late: a wait that is over soon says both.
  void await_told(const Host& host, const Arguments& more, const std::string& state,
                  const std::string& held) {
    Arguments arguments = words(more);
    arguments.insert(arguments.end(), {"--timeout", "0.2"});
    eventually("told of \"" + state + "\" and \"" + held + "\"", [&] {
      const Outcome outcome = host.epochfs(arguments);
      EXPECT_EQ(outcome.status, kTimedOut) << outcome.err;
      return outcome.err.find("not reached within 0.2 s: " + state) != std::string::npos &&
             outcome.err.ends_with("; the target holds " + held + "\n");
    });
  }
};

// A wait for an epoch that never comes. The daemon has begun it when this is made: calls of
// one connection are taken in order.
class BegunWait {
 public:
  BegunWait(kj::AsyncIoContext& io, const Host& host, const std::string& id)
      : scope_(io.waitScope),
        connection_(UnixRpcClient::connect(*io.lowLevelProvider, host.control()).value()),
        daemon_(connection_->bootstrap<rpc::Daemon>()),
        answer_(ask(id)) {
    daemon_.infoRequest().send().wait(scope_);
  }
  // Status and message of its end.
  std::string end() {
    auto answer = answer_.wait(scope_);
    const auto failure = answer.getFailure();
    return std::to_string(failure.getStatus()) + " " + failure.getMessage().cStr();
  }

 private:
  capnp::RemotePromise<rpc::Daemon::WaitResults> ask(const std::string& id) {
    auto request = daemon_.waitRequest();
    request.setId(id);
    request.setEpoch(1'000'000);
    return request.send();
  }

  kj::WaitScope& scope_;
  std::unique_ptr<UnixRpcClient> connection_;
  rpc::Daemon::Client daemon_;
  capnp::RemotePromise<rpc::Daemon::WaitResults> answer_;
};

// However short: none is taken for no limit.
TEST_F(WaitTest, ATimeoutBelowAMillisecondEnds) {
  establish();
  EXPECT_EQ(wait({"--epoch", "1000000", "--timeout", "0.0004"}).status, kTimedOut);
  EXPECT_EQ(wait({"--epoch", "1000000", "--timeout", "1e-300"}).status, kTimedOut);
}

// An administrator has to know why.
TEST_F(WaitTest, WhenTheTimeIsOverItSaysHowThingsStand) {
  start_daemons();
  a().mount(data());
  replica().create();
  await_told(a(), {}, "Awaiting Authorization", "no epoch yet");
  replica().await_proposal();
  await_told(b(), {}, "Awaiting Authorization", "no epoch yet");
  replica().authorize();
  const uint64_t epoch = replica().barrier();
  replica().wait_for_epoch(epoch);
  const std::string held = "epoch " + std::to_string(epoch);
  const Arguments next = {"--epoch", std::to_string(epoch + 1)};
  await_told(a(), next, "Up to Date", held);
  await_told(b(), next, "Up to Date", held);
  replica().pause();
  await_told(a(), next, "Off", held);
  await_told(a(), {"--idle"}, "Off", held);
  replica().go_on();
  b().kill_daemon();
  await_told(a(), next, "Target Unreachable (", held);
}

// The data that is there needs no mount to be there; what is to come does.
TEST_F(WaitTest, WithoutAMountItWaitsForOne) {
  establish();
  const uint64_t epoch = replica().barrier();
  replica().wait_for_epoch(epoch);
  a().unmount(data());
  EXPECT_EQ(wait({"--epoch", std::to_string(epoch)}).status, 0);
  await_told(a(), {"--idle"}, "Disconnected (", "epoch " + std::to_string(epoch));
  Background waits(a().command(words({"--idle"})));
  EXPECT_FALSE(waits.wait(Milliseconds(300)));
  a().mount(data());
  EXPECT_EQ(waits.wait(Host::kPatience), 0) << waits.said();
}

// The target never holds it: all that was sealed meanwhile arrives at once.
TEST_F(WaitTest, AnEpochThatWasMergedIsReachedWithALaterOne) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  replica().pause();
  const uint64_t sent = replica().status().epochs_sent;
  write_file(data() + "/first", "1");
  const uint64_t epoch = replica().barrier();
  Background waits(a().command(words({"--epoch", std::to_string(epoch)})));
  write_file(data() + "/second", "2");
  const uint64_t later = replica().barrier();
  EXPECT_FALSE(waits.wait(Milliseconds(300)));
  replica().go_on();
  EXPECT_EQ(waits.wait(Host::kPatience), 0) << waits.said();
  EXPECT_EQ(replica().status().epochs_sent, sent + 1) << "none was merged";
  EXPECT_GE(replica().status().recovery_epoch, later);
  EXPECT_EQ(read_whole_file(copy() + "/first"), "1");
}

// ---- relationships that end meanwhile: 3 ended, 4 not known any more ----

TEST_F(WaitTest, DeletedOnTheSourceMeanwhile) {
  establish();
  const std::string wait = " wait for relationship " + replica().id();
  auto io = kj::setupAsyncIo();
  BegunWait here(io, a(), replica().id()), there(io, b(), replica().id());
  a().must({"relationship", "delete", replica().id(), "--yes"});
  EXPECT_EQ(here.end(), "4" + wait + ": it was deleted");
  EXPECT_EQ(there.end(), "3" + wait + ": Ended (deleted on the source host)");
  // As does one that comes later.
  EXPECT_EQ(wait_status(a()), 4);
  EXPECT_EQ(wait_status(b()), 3);
}

TEST_F(WaitTest, DeletedOnTheTargetMeanwhile) {
  establish();
  const std::string wait = " wait for relationship " + replica().id();
  auto io = kj::setupAsyncIo();
  BegunWait here(io, a(), replica().id()), there(io, b(), replica().id());
  b().must({"relationship", "delete", replica().id(), "--yes"});
  EXPECT_EQ(here.end(), "3" + wait + ": Ended (deleted on the other host)");
  EXPECT_EQ(there.end(), "3" + wait + ": Ended (deleted on this host)");
  EXPECT_EQ(wait_status(a()), 3);
  EXPECT_EQ(wait_status(b()), 4);
}

}  // namespace
}  // namespace epochfs::testing
