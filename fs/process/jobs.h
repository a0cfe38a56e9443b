// Jobs: which parts of a mount's control take time, and where do they run? Barriers and what
// belongs to them, one after the other, in one thread. Knows nothing of RPC.
#pragma once

#include <kj/function.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "fs/process/controlled_mount.h"
#include "journal/base/mutex.h"

namespace epochfs::fs {

// A thread that takes no signals, which must reach the session's thread.
std::thread quiet_thread(std::function<void()> body);

// Runs jobs one after the other, in a thread of its own. Threads: any may post.
class Jobs {
 public:
  using Job = kj::Function<void()>;

  Jobs();
  // Runs what was posted, then ends.
  ~Jobs();

  // False: the job was refused, because too many are waiting. A job that only lets go of things
  // must not be refusable.
  bool post(Job job, bool refusable);

 private:
  void run();

  Mutex mutex_;
  Condition posted_;
  std::deque<Job> jobs_ EPOCHFS_GUARDED_BY(mutex_);
  bool stop_ EPOCHFS_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

// A pin that its holder needs. Unpinning merges layers, which takes time, so the destructor leaves
// it to a job.
class HeldPin {
 public:
  HeldPin(Pins& pins, Jobs& jobs, std::shared_ptr<Pins::Pin> pin)
      : pins_(pins), jobs_(jobs), pin_(std::move(pin)) {}
  ~HeldPin();
  HeldPin(const HeldPin&) = delete;
  HeldPin& operator=(const HeldPin&) = delete;
  int log_fd() const { return pin_->log_fd(); }
  void passed(const FileId& id, uint64_t offset) { pin_->passed(id, offset); }

 private:
  Pins& pins_;
  Jobs& jobs_;
  std::shared_ptr<Pins::Pin> pin_;
};

struct CutEpoch {
  EpochId epoch{};
  uint64_t barrier_ns = 0;
  std::unique_ptr<HeldPin> pin;  // none if nothing had changed
  Result<void> labelled = {};    // the epoch is sealed all the same
};

// Flushes mapped pages, then cuts an epoch and makes it durable. Slow. Not in a worker of the
// mount, since a barrier waits for workers. A labelled epoch is always a new one.
Result<CutEpoch> cut_epoch(ControlledMount& mount, bool only_if_changed,
                           std::chrono::milliseconds timeout, const std::string& label);
// Also pins (since, the new epoch]. With only_if_changed, if nothing has changed behind `since`:
// returns `since` without a pin.
Result<CutEpoch> cut_and_pin(ControlledMount& mount, Jobs& jobs, EpochId since,
                             bool only_if_changed, std::chrono::milliseconds timeout);

}  // namespace epochfs::fs
