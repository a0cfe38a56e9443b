#include "tests/e2e/replica.h"
#include "tests/support/failure.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fmt/format.h>

#include <chrono>

#include "schema/control.capnp.h"

namespace epochfs::testing {

ReplicaStatus status_of(const Host& host, const std::string& id) {
  const Outcome outcome = host.epochfs({"status", id, "--json"});
  // 3 is for states that are not well, which a test may wait for.
  if (outcome.status != 0 && outcome.status != 3) {
    throw Failure(fmt::format("status {}: exit status {}: {}", id, outcome.status, outcome.err));
  }
  capnp::MallocMessageBuilder message;
  auto decoded = message.initRoot<rpc::Status>();
  capnp::JsonCodec().decode(kj::ArrayPtr<const char>(outcome.out.data(), outcome.out.size()),
                            decoded);
  const rpc::Status::Reader status = decoded;
  return {.state = status.getState(),
          .detail = status.getDetail(),
          .last_error = status.getLastError(),
          .recovery_time_ns = status.getRecoveryTimeNs(),
          .recovery_epoch = status.getRecoveryEpoch(),
          .sealed_epoch = status.getSealedEpoch(),
          .epochs_sent = status.getEpochsSent(),
          .files_sent = status.getFilesSent(),
          .bytes_sent = status.getBytesSent(),
          .percent = status.getPercent(),
          .compared_reason = status.getComparedReason(),
          .compared_ended_ns = status.getComparedEndedNs(),
          .files_compared = status.getFilesCompared(),
          .files_differed = status.getFilesDiffered(),
          .pressure = status.getSpace().getPressure(),
          .blocking = status.getSpace().getBlocking(),
          .exit_status = outcome.status};
}

Arguments Replica::create_arguments(const Arguments& more) const {
  Arguments arguments = {
      "relationship",     "create",          "--source", source_directory_,
      "--target-address", target_.address(), "--port",   std::to_string(target_.port()),
      "--target",         target_directory_};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void Replica::create(const Arguments& more) { id_ = source_.must(create_arguments(more)); }

void Replica::await_proposal() const {
  eventually("relationship " + id_ + " is listed by the target", [&] {
    return target_.epochfs({"relationship", "show", id_}).status == 0;
  });
}

void Replica::authorize(const Arguments& more) const {
  Arguments arguments = {"relationship", "authorize", id_};
  arguments.insert(arguments.end(), more.begin(), more.end());
  target_.must(arguments);
}

void Replica::establish(const Arguments& more) {
  create(more);
  await_proposal();
  authorize();
}

uint64_t Replica::barrier() const {
  const std::string number = source_.must({"barrier", source_directory_});
  char* end = nullptr;
  const uint64_t epoch = std::strtoull(number.c_str(), &end, 10);
  if (number.empty() || *end != '\0' || epoch == 0) {
    throw Failure("barrier printed \"" + number + "\" instead of the number of an epoch");
  }
  return epoch;
}

void Replica::wait_for_epoch(uint64_t epoch, Milliseconds timeout) const {
  source_.must({"wait", id_, "--epoch", std::to_string(epoch), "--timeout",
                fmt::format("{:.3f}", double(timeout.count()) / 1000)},
               timeout + Milliseconds(10'000));
}

void Replica::wait_until_idle(Milliseconds timeout) const {
  source_.must(
      {"wait", id_, "--idle", "--timeout", fmt::format("{:.3f}", double(timeout.count()) / 1000)},
      timeout + Milliseconds(10'000));
}

void Replica::await_state(const std::string& wanted, Milliseconds timeout) const {
  eventually(
      "state \"" + wanted + "\"", [&] { return state() == wanted; }, timeout);
}

void Replica::await_target_state(const std::string& wanted) const {
  eventually("state \"" + wanted + "\" on the target",
             [&] { return target_status().state == wanted; });
}

::testing::AssertionResult Replica::becomes_equal(Milliseconds timeout) const {
  const uint64_t epoch = barrier();
  const TreeSnapshot wanted = snapshot(source_directory_);
  wait_for_epoch(epoch, timeout);
  return same_tree(wanted, snapshot(target_directory_));
}

::testing::AssertionResult Replica::is_equal() const {
  return same_tree(snapshot(source_directory_), snapshot(target_directory_));
}

void Replica::pause() const {
  source_.must({"relationship", "disable", id_});
  await_state("Off");
}

void Replica::go_on() const { source_.must({"relationship", "enable", id_}); }

void Replica::expect_at_rest(const std::function<std::string()>& why_not) const {
  EXPECT_EQ(wrong_at_rest(why_not), "")
      << target_directory_ << " at epoch " << status().recovery_epoch;
}

std::string Replica::wrong_at_rest(const std::function<std::string()>& why_not) const {
  pause();
  constexpr Milliseconds kAtRest{1000};  // applying does not pause for so long
  std::string why;
  TreeSnapshot seen;
  auto seen_at = std::chrono::steady_clock::now();
  eventually("the target holds one epoch", [&] {
    why = why_not();
    if (why.empty()) return true;
    if (TreeSnapshot now = snapshot(target_directory_); !same_tree(seen, now)) {
      seen = std::move(now);
      seen_at = std::chrono::steady_clock::now();
    }
    return std::chrono::steady_clock::now() - seen_at > kAtRest;
  });
  go_on();
  return why;
}

void TwoHosts::SetUp() {
  if (auto why = Host::why_not()) GTEST_SKIP() << *why;
  a_ = std::make_unique<Host>("a");
  b_ = std::make_unique<Host>("b");
  replica_ = std::make_unique<Replica>(*a_, make_directory_on(*a_, "data"), *b_,
                                       make_directory_on(*b_, "copy"));
}

std::string TwoHosts::make_directory_on(Host& host, const std::string& name) {
  return host.make_directory(name);
}

void TwoHosts::start_daemons() {
  a().start_daemon();
  b().start_daemon();
}

void TwoHosts::establish(const Arguments& more) {
  start_daemons();
  a().mount(data());
  replica().establish(more);
}

void TwoHosts::stop_in_a_transfer() {
  const uint64_t stored = b().stored_bytes();
  b().freeze_daemon();
  a().must({"relationship", "replicate", replica().id()});
  eventually("something comes", [&] {
    b().thaw_daemon();
    b().freeze_daemon();
    return b().stored_bytes() > stored + (1 << 20);
  });
}

void TwoHosts::expect_at_an_epoch(const std::function<std::string()>& why_not) {
  replica().wait_for_epoch(replica().barrier());
  replica().expect_at_rest(why_not);
}

}  // namespace epochfs::testing
