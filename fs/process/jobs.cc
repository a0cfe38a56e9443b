#include "fs/process/jobs.h"

#include <fmt/format.h>
#include <signal.h>

#include "journal/volume/labels.h"

namespace epochfs::fs {
namespace {

constexpr size_t kMaxWaitingJobs = 64;

}  // namespace

std::thread quiet_thread(std::function<void()> body) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

Jobs::Jobs() : thread_(quiet_thread([this] { run(); })) {}

Jobs::~Jobs() {
  {
    Lock lock(mutex_);
    stop_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

bool Jobs::post(Job job, bool refusable) {
  Lock lock(mutex_);
  if (refusable && jobs_.size() >= kMaxWaitingJobs) return false;
  jobs_.push_back(std::move(job));
  posted_.notify_one();
  return true;
}

void Jobs::run() {
  Lock lock(mutex_);
  for (;;) {
    while (!stop_ && jobs_.empty()) posted_.wait(lock);
    if (jobs_.empty()) return;
    {
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }  // destroyed unlocked: what the job held may post, too
    lock.lock();
  }
}

HeldPin::~HeldPin() {
  jobs_.post([&pins = pins_, pin = std::move(pin_)] { pins.unpin(pin); }, false);
}

Result<CutEpoch> cut_epoch(ControlledMount& mount, bool only_if_changed,
                           std::chrono::milliseconds timeout, const std::string& label) {
  if (!label.empty()) EPOCHFS_DO(journal::check_label(label));
  EPOCHFS_DO(mount.flush_mappings());
  EPOCHFS_TRY(journal::SealedEpoch sealed,
              mount.recorder.barrier(only_if_changed && label.empty(), timeout));
  CutEpoch cut{sealed.epoch, sealed.barrier_ns, nullptr};
  if (label.empty()) return cut;
  cut.labelled = journal::write_label(Storage::system(), mount.volume.dir(), sealed, label);
  if (!cut.labelled) {
    Error& error = cut.labelled.error();
    error.what =
        fmt::format("epoch {} is sealed, but not labelled: {}", value(sealed.epoch), error.what);
    error.status = ExitStatus::kPartial;
  }
  return cut;
}

Result<CutEpoch> cut_and_pin(ControlledMount& mount, Jobs& jobs, EpochId since,
                             bool only_if_changed, std::chrono::milliseconds timeout) {
  EPOCHFS_DO(mount.flush_mappings());
  if (since >= mount.journal.open_epoch()) {
    return fail(fmt::format("pin what changed since epoch {}: the journal's open epoch is {}",
                            value(since), value(mount.journal.open_epoch())));
  }
  if (only_if_changed) {
    EPOCHFS_TRY(auto newest, mount.recorder.newest_if_unchanged(timeout));
    if (newest && newest->epoch == since) return CutEpoch{since, newest->barrier_ns, nullptr};
  }
  EPOCHFS_TRY(auto log, mount.pins.make_log());
  std::unique_ptr<HeldPin> pin;  // dropped again if the epoch cannot be made durable
  EPOCHFS_TRY(journal::SealedEpoch sealed,
              mount.recorder.barrier(only_if_changed, timeout, [&](const journal::SealedEpoch& s) {
                pin = std::make_unique<HeldPin>(mount.pins, jobs,
                                                mount.pins.pin(since, s.epoch, std::move(log)));
              }));
  return CutEpoch{sealed.epoch, sealed.barrier_ns, std::move(pin)};
}

}  // namespace epochfs::fs
