// Jobs: what of a mount's control takes time, and where does it run? Barriers and what follows
// them, one after the other, in one thread. Knows nothing of RPC.
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

// A thread that takes no signals: the process's own must reach the session's.
std::thread quiet_thread(std::function<void()> body);

// Runs jobs one after the other, in a thread of its own. Threads: any may post.
class Jobs {
 public:
  using Job = kj::Function<void()>;

  Jobs();
  // Runs what is posted already.
  ~Jobs();

  // False: too many are waiting already. What only lets go of things is never refused.
  bool post(Job job, bool refusable);

 private:
  void run();

  Mutex mutex_;
  Condition posted_;
  std::deque<Job> jobs_ EPOCHFS_GUARDED_BY(mutex_);
  bool stop_ EPOCHFS_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

// A pin, until nobody asks for it any more. Unpinning merges layers, which takes time: it
// becomes a job.
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
  std::unique_ptr<HeldPin> pin;  // none, where nothing had changed
  Result<void> labelled = {};    // the epoch is sealed all the same
};

// Jobs: mapped pages are flushed, then the epoch is cut and made durable. Slow; not in a worker
// of the mount, since a barrier waits for workers. With a label the epoch is a new one always.
Result<CutEpoch> cut_epoch(ControlledMount& mount, bool only_if_changed,
                           std::chrono::milliseconds timeout, const std::string& label);
// Pins (since, the new epoch] too. With only_if_changed, and nothing changed behind `since`:
// that epoch, without a pin.
Result<CutEpoch> cut_and_pin(ControlledMount& mount, Jobs& jobs, EpochId since,
                             bool only_if_changed, std::chrono::milliseconds timeout);

}  // namespace epochfs::fs
