// Replica: what does a user do to replicate a directory, and when has the target caught up?
// One relationship from a mounted directory of one Host to a directory of another, driven by
// commands alone. TwoHosts is the fixture of most tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tests/e2e/host.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {

// One line of `epochfs status --json`.
struct ReplicaStatus {
  std::string state, detail, last_error;
  uint64_t recovery_time_ns = 0;  // of the barrier
  uint64_t recovery_epoch = 0, sealed_epoch = 0, epochs_sent = 0, files_sent = 0, bytes_sent = 0;
  float percent = -1;
  // Of the last comparison of everything.
  std::string compared_reason;
  uint64_t compared_ended_ns = 0, files_compared = 0, files_differed = 0;
  // Of the journal at the source.
  std::string pressure;
  bool blocking = false;
  int exit_status = 0;
};
ReplicaStatus status_of(const Host& host, const std::string& id);

class Replica {
 public:
  // Neither mounts nor creates anything. The directories are those of the hosts.
  Replica(Host& source, std::string source_directory, Host& target, std::string target_directory)
      : source_(source),
        target_(target),
        source_directory_(std::move(source_directory)),
        target_directory_(std::move(target_directory)) {}

  const std::string& id() const { return id_; }
  const std::string& source_directory() const { return source_directory_; }
  const std::string& target_directory() const { return target_directory_; }

  // The words of `relationship create` for it.
  Arguments create_arguments(const Arguments& more = {}) const;
  void create(const Arguments& more = {});
  // Returns when the target's host lists it.
  void await_proposal() const;
  void authorize(const Arguments& more = {}) const;
  // The three of them.
  void establish(const Arguments& more = {});

  // Seals an epoch of the source. Its number.
  uint64_t barrier() const;
  void wait_for_epoch(uint64_t epoch, Milliseconds timeout = Host::kPatience) const;
  void wait_until_idle(Milliseconds timeout = Host::kPatience) const;

  // No data moves after pause() has returned, until go_on().
  void pause() const;
  void go_on() const;

  ReplicaStatus status() const { return status_of(source_, id_); }
  ReplicaStatus target_status() const { return status_of(target_, id_); }
  std::string state() const { return status().state; }
  // Polls: there is no event for most states.
  void await_state(const std::string& state, Milliseconds timeout = Milliseconds(60'000)) const;
  void await_target_state(const std::string& state) const;

  // Seals an epoch while nobody changes the source, waits for it, and compares.
  ::testing::AssertionResult becomes_equal(Milliseconds timeout = Host::kPatience) const;
  // As they are now.
  ::testing::AssertionResult is_equal() const;

  // Looks at the target where it happens to stand: disables the relationship meanwhile.
  // `why_not` says what is wrong with what the target holds; it is asked again while that
  // still changes, since what was committed before may still be being applied.
  void expect_at_rest(const std::function<std::string()>& why_not) const;
  std::string wrong_at_rest(const std::function<std::string()>& why_not) const;

 private:
  Host& source_;
  Host& target_;
  std::string source_directory_, target_directory_, id_;
};

// Host a with an empty directory `data`, host b with an empty directory `copy`, and the
// relationship between them, which is not established. No daemon runs, nothing is mounted.
class TwoHosts : public ::testing::Test {
 protected:
  void SetUp() override;

  Host& a() { return *a_; }
  Host& b() { return *b_; }
  const std::string& data() const { return replica_->source_directory(); }
  const std::string& copy() const { return replica_->target_directory(); }
  Replica& replica() { return *replica_; }

  void start_daemons();
  // Daemons started, `data` mounted, relationship accepted. Nothing need be copied yet.
  void establish(const Arguments& more = {});

  // Asks for an epoch, and stops host b when some of it has come. b goes on with thaw_daemon().
  void stop_in_a_transfer();

  // Looks at the target at one epoch while others go on changing the source: cuts it, has
  // it shipped, and looks (Replica::expect_at_rest).
  void expect_at_an_epoch(const std::function<std::string()>& why_not);

  // Makes the source's and the target's directory: in the host's folder.
  virtual std::string make_directory_on(Host& host, const std::string& name);

 private:
  std::unique_ptr<Host> a_, b_;
  std::unique_ptr<Replica> replica_;
};

}  // namespace epochfs::testing
