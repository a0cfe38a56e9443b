// Window: how many bytes may be on their way to the target at once? Limits the bytes of calls
// that are sent but not answered, and remembers the first failure. One thread.
#pragma once

#include <kj/async.h>

#include "replicator/source/reading/interruptible.h"

namespace epochfs::replicator {

class Window final : kj::TaskSet::ErrorHandler {
 public:
  static constexpr uint64_t kMaxBytes = 16 << 20;

  explicit Window(Interruptible& loop) : loop_(loop), tasks_(*this) {}

  // Counts the call, then waits until no more than kMaxBytes are unanswered. Throws if a call
  // has failed, or when interrupted.
  void add(kj::Promise<void> call, uint64_t bytes) {
    outstanding_ += bytes;
    tasks_.add(call.then([this, bytes] {
      outstanding_ -= bytes;
      wake();
    }));
    while (outstanding_ > kMaxBytes) wait_for_one();
    rethrow();
  }

  // Returns when every call has been answered.
  void drain() {
    while (outstanding_ > 0) wait_for_one();
    rethrow();
  }

 private:
  void taskFailed(kj::Exception&& e) override {
    if (failure_ == nullptr) failure_ = kj::mv(e);
    wake();
  }
  void wake() {
    if (waiter_) waiter_->fulfill();
  }
  void wait_for_one() {
    rethrow();
    auto pair = kj::newPromiseAndFulfiller<void>();
    waiter_ = kj::mv(pair.fulfiller);
    loop_.wait(kj::mv(pair.promise));
  }
  void rethrow() {
    KJ_IF_MAYBE (e, failure_) kj::throwFatalException(kj::cp(*e));
  }

  Interruptible& loop_;
  uint64_t outstanding_ = 0;
  kj::Own<kj::PromiseFulfiller<void>> waiter_;
  kj::Maybe<kj::Exception> failure_;
  kj::TaskSet tasks_;
};

}  // namespace epochfs::replicator
