// Interruptible: how does a session wait for the network and still stop within a second? Every
// wait is joined with one promise. It breaks when the session must stop: because it was stopped,
// disabled or edited, or because a blackout window has begun.
#pragma once

#include <kj/async-io.h>
#include <kj/debug.h>

#include <utility>

namespace epochfs::replicator {

class Interruptible {
 public:
  // `interruption` resolves when every wait must end. One thread.
  Interruptible(kj::WaitScope& scope, kj::Promise<void> interruption)
      : scope_(scope), interruption_(interruption.then([this] { interrupted_ = true; }).fork()) {}

  // Waits for the promise. Throws kj::Exception when the promise breaks or the wait is
  // interrupted; interrupted() tells which.
  template <typename T>
  T wait(kj::Promise<T> promise) {
    return promise
        .exclusiveJoin(interruption_.addBranch().then(
            []() -> kj::Promise<T> { return KJ_EXCEPTION(DISCONNECTED, "interrupted"); }))
        .wait(scope_);
  }

  // Lets the event loop handle what has arrived. Throws when interrupted.
  void check() {
    scope_.poll();
    if (interrupted_) kj::throwFatalException(KJ_EXCEPTION(DISCONNECTED, "interrupted"));
  }

  bool interrupted() const { return interrupted_; }

 private:
  kj::WaitScope& scope_;
  bool interrupted_ = false;
  kj::ForkedPromise<void> interruption_;
};

}  // namespace epochfs::replicator
