#include "fs/process/control.h"

#include <capnp/rpc-twoparty.h>
#include <fmt/format.h>
#include <kj/async-io.h>
#include <kj/function.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <optional>
#include <thread>

#include "journal/control/failure.h"
#include "journal/control/unix_rpc.h"
#include "journal/volume/labels.h"
#include "schema/control.capnp.h"

namespace epochfs::fs {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxWaitingJobs = 64;
constexpr milliseconds kMaxTimeout = std::chrono::hours(24);
// What a call may take beyond its timeout: flushing and publishing cannot be cut short.
constexpr milliseconds kGrace = std::chrono::seconds(30);

// A thread that takes no signals: the process's own must reach the session's.
std::thread quiet_thread(std::function<void()> body) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

void fill(capnp::List<capnp::Text>::Builder out, const std::vector<std::string>& values) {
  for (unsigned i = 0; i < out.size(); ++i) out.set(i, values[i]);
}

void fill(rpc::JournalSpace::Builder out, const HousekeepingStatus& status) {
  out.setQuotaBytes(status.quota_bytes);
  out.setSegmentBytes(status.segment_bytes);
  out.setCheckpointBytes(status.checkpoint_bytes);
  out.setPreImageBytes(status.pre_image_bytes);
  out.setCheckpoints(status.checkpoints);
  out.setPressure(pressure_name(status.pressure));
  out.setPressureSinceNs(status.since_ns);
  out.setBlocking(status.blocking);
  out.setError(status.error);
}

void fill(capnp::List<rpc::MountInfo::LongPause>::Builder out,
          const std::vector<LongPause>& pauses) {
  for (unsigned i = 0; i < out.size(); ++i) {
    out[i].setTimeNs(pauses[i].time_ns);
    out[i].setPauseNs(pauses[i].pause_ns());
    out[i].setDrainNs(pauses[i].drain_ns);
    out[i].setCutNs(pauses[i].cut_ns);
    out[i].setCalledOff(pauses[i].called_off);
    out[i].setWaitedFor(pauses[i].waited_for);
  }
}

}  // namespace

// Runs jobs one after the other, in a thread of its own. Threads: any may post.
class ControlServer::Jobs {
 public:
  using Job = kj::Function<void()>;

  Jobs() : thread_(quiet_thread([this] { run(); })) {}
  // Runs what is posted already; calls that nobody waits for any more do nothing.
  ~Jobs() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    posted_.notify_one();
    thread_.join();
  }

  // False: too many are waiting already. What only lets go of things is never refused.
  bool post(Job job, bool refusable) {
    std::lock_guard lock(mutex_);
    if (refusable && jobs_.size() >= kMaxWaitingJobs) return false;
    jobs_.push_back(std::move(job));
    posted_.notify_one();
    return true;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      posted_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      {
        Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
      }  // what it held may post in its turn
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

// A pin, until nobody asks for it any more. Unpinning merges layers, which takes time.
class ControlServer::HeldPin {
 public:
  HeldPin(Pins& pins, Jobs& jobs, std::shared_ptr<Pins::Pin> pin)
      : pins_(pins), jobs_(jobs), pin_(std::move(pin)) {}
  ~HeldPin() {
    jobs_.post([&pins = pins_, pin = std::move(pin_)] { pins.unpin(pin); }, false);
  }
  HeldPin(const HeldPin&) = delete;
  HeldPin& operator=(const HeldPin&) = delete;
  int log_fd() const { return pin_->log_fd(); }
  void passed(const FileId& id, uint64_t offset) { pin_->passed(id, offset); }

 private:
  Pins& pins_;
  Jobs& jobs_;
  std::shared_ptr<Pins::Pin> pin_;
};

class ControlServer::PinnedEpochServer final : public rpc::PinnedEpoch::Server {
 public:
  explicit PinnedEpochServer(std::unique_ptr<HeldPin> pin) : pin_(std::move(pin)) {}
  kj::Promise<void> release(ReleaseContext) override {
    pin_.reset();
    return kj::READY_NOW;
  }
  kj::Promise<void> confirm(ConfirmContext) override {
    KJ_REQUIRE(pin_ != nullptr, "the epoch is not pinned any more");
    return kj::READY_NOW;
  }
  kj::Promise<void> passed(PassedContext call) override {
    auto params = call.getParams();
    if (pin_) pin_->passed({params.getInode(), params.getBirthNs()}, params.getOffset());
    return kj::READY_NOW;
  }
  kj::Maybe<int> getFd() override {
    if (!pin_) return nullptr;
    return pin_->log_fd();
  }

 private:
  std::unique_ptr<HeldPin> pin_;
};

class ControlServer::BackingServer final : public rpc::BackingDirectory::Server {
 public:
  explicit BackingServer(int fd) : fd_(fd) {}
  kj::Maybe<int> getFd() override { return fd_; }

 private:
  const int fd_;
};

class ControlServer::MountServer final : public rpc::Mount::Server {
 public:
  MountServer(ControlledMount& mount, Jobs& jobs, kj::Timer& timer)
      : mount_(mount), jobs_(jobs), timer_(timer) {}

  kj::Promise<void> info(InfoContext context) override;
  kj::Promise<void> backing(BackingContext context) override {
    context.getResults().setDirectory(kj::heap<BackingServer>(mount_.backing_dir));
    return kj::READY_NOW;
  }
  kj::Promise<void> barrier(BarrierContext context) override;
  kj::Promise<void> barrierAndPin(BarrierAndPinContext context) override;
  kj::Promise<void> cursorsChanged(CursorsChangedContext) override {
    return run<void>(
        kMaxTimeout, [&m = mount_] { return m.housekeeper.cursors_changed(); },
        [](Result<void>& done) {
          if (!done) KJ_FAIL_REQUIRE(done.error().message());
        });
  }

 private:
  struct Cut {
    EpochId epoch{};
    uint64_t barrier_ns = 0;
    std::unique_ptr<HeldPin> pin;
    Result<void> labelled = {};
  };
  static Result<Cut> cut(ControlledMount& mount, bool only_if_changed, milliseconds timeout,
                         const std::string& label);
  static Result<Cut> cut_and_pin(ControlledMount& mount, Jobs& jobs, EpochId since,
                                 bool only_if_changed, milliseconds timeout);

  // Runs f among the jobs, then deliver, here, with its answer, or with an error when
  // that takes too long.
  template <typename T>
  kj::Promise<void> run(milliseconds timeout, kj::Function<Result<T>()> f,
                        kj::Function<void(Result<T>&)> deliver);

  ControlledMount& mount_;
  Jobs& jobs_;
  kj::Timer& timer_;
};

template <typename T>
kj::Promise<void> ControlServer::MountServer::run(milliseconds timeout, kj::Function<Result<T>()> f,
                                                  kj::Function<void(Result<T>&)> deliver) {
  // Written by the job before it says so, and read here only after.
  auto answer = std::make_shared<std::optional<Result<T>>>();
  auto done = kj::newPromiseAndCrossThreadFulfiller<bool>();
  bool posted = jobs_.post(
      [f = kj::mv(f), answer, fulfiller = kj::mv(done.fulfiller)]() mutable {
        if (!fulfiller->isWaiting()) return;
        answer->emplace(f());
        fulfiller->fulfill(true);
      },
      true);
  if (!posted) {
    Result<T> refused = fail("control the mount: too many calls are waiting", EBUSY);
    deliver(refused);
    return kj::READY_NOW;
  }
  auto too_late =
      timer_.afterDelay((timeout + kGrace).count() * kj::MILLISECONDS).then([] { return false; });
  return done.promise.exclusiveJoin(kj::mv(too_late))
      .then([answer, deliver = kj::mv(deliver)](bool in_time) mutable {
        if (in_time) return deliver(**answer);
        Result<T> late = fail(
            "cut epoch: flushing mapped pages, or making the epoch durable, "
            "takes too long",
            0, ExitStatus::kTimedOut);
        deliver(late);
      });
}

// ---- the calls ----

kj::Promise<void> ControlServer::MountServer::info(InfoContext context) {
  const journal::JournalStatistics journal = mount_.journal.statistics();
  const BarrierStatistics barrier = mount_.barrier.statistics();
  const auto features = mount_.features(), missing = mount_.missing();
  auto info = context.getResults().initInfo();
  info.setMountpoint(mount_.mountpoint);
  info.setBacking(mount_.backing_path);
  info.setJournal(mount_.volume.path());
  info.setLineage(mount_.volume.info().lineage.to_string());
  info.setPid(uint32_t(::getpid()));
  info.setOpenEpoch(value(mount_.journal.open_epoch()));
  info.setRecordsInOpenEpoch(mount_.journal.records_in_open_epoch());
  info.setRecordsLost(journal.lost);
  info.setLastBarrierPauseNs(barrier.last_pause_ns);
  info.setMaxBarrierPauseNs(barrier.max_pause_ns);
  info.setJournalBytes(journal.segments * mount_.volume.info().segment_bytes);
  info.setBarriers(barrier.cuts);
  info.setBarriersCalledOff(barrier.called_off);
  info.setP99BarrierPauseNs(barrier.p99_pause_ns);
  info.setMaxBarrierDrainNs(barrier.max_drain_ns);
  info.setMaxBarrierCutNs(barrier.max_cut_ns);
  fill(info.initLongPauses(unsigned(barrier.long_pauses.size())), barrier.long_pauses);
  const MountUsage usage = mount_.usage();
  info.setInodes(usage.inodes);
  info.setOpenFiles(usage.open_files);
  info.setDescriptors(usage.descriptors);
  info.setDescriptorLimit(usage.descriptor_limit);
  info.setResidentBytes(usage.resident_bytes);
  info.setAwakeNs(uint64_t(usage.awake.count()));
  info.setMountedNs(mount_.mounted_ns);
  fill(info.initSpace(), mount_.housekeeper.status());
  fill(info.initFeatures(unsigned(features.size())), features);
  fill(info.initMissing(unsigned(missing.size())), missing);
  return kj::READY_NOW;
}

kj::Promise<void> ControlServer::MountServer::barrier(BarrierContext context) {
  auto params = context.getParams();
  const bool only_if_changed = params.getOnlyIfChanged();
  const auto timeout = std::min(milliseconds(params.getTimeoutMs()), kMaxTimeout);
  std::string label = params.getLabel();
  return run<Cut>(
      timeout,
      [&m = mount_, only_if_changed, timeout, label = std::move(label)] {
        return cut(m, only_if_changed, timeout, label);
      },
      [context](Result<Cut>& done) mutable {
        auto results = context.getResults();
        if (!done) return write_failure(results.initFailure(), done.error());
        results.setEpoch(value(done->epoch));
        results.setBarrierTimeNs(done->barrier_ns);
        if (!done->labelled) write_failure(results.initFailure(), done->labelled.error());
      });
}

kj::Promise<void> ControlServer::MountServer::barrierAndPin(BarrierAndPinContext context) {
  auto params = context.getParams();
  const EpochId since{params.getSince()};
  const bool only_if_changed = params.getOnlyIfChanged();
  const auto timeout = std::min(milliseconds(params.getTimeoutMs()), kMaxTimeout);
  return run<Cut>(
      timeout,
      [&m = mount_, &jobs = jobs_, since, only_if_changed, timeout] {
        return cut_and_pin(m, jobs, since, only_if_changed, timeout);
      },
      [context](Result<Cut>& done) mutable {
        auto results = context.getResults();
        if (!done) return write_failure(results.initFailure(), done.error());
        results.setEpoch(value(done->epoch));
        results.setBarrierTimeNs(done->barrier_ns);
        if (done->pin) results.setPin(kj::heap<PinnedEpochServer>(std::move(done->pin)));
      });
}

// ---- the jobs ----

Result<ControlServer::MountServer::Cut> ControlServer::MountServer::cut(ControlledMount& mount,
                                                                        bool only_if_changed,
                                                                        milliseconds timeout,
                                                                        const std::string& label) {
  if (!label.empty()) EPOCHFS_DO(journal::check_label(label));
  EPOCHFS_DO(mount.flush_mappings());
  EPOCHFS_TRY(journal::SealedEpoch sealed,
              mount.recorder.barrier(only_if_changed && label.empty(), timeout));
  Cut cut{sealed.epoch, sealed.barrier_ns, nullptr};
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

Result<ControlServer::MountServer::Cut> ControlServer::MountServer::cut_and_pin(
    ControlledMount& mount, Jobs& jobs, EpochId since, bool only_if_changed, milliseconds timeout) {
  EPOCHFS_DO(mount.flush_mappings());
  if (since >= mount.journal.open_epoch()) {
    return fail(fmt::format("pin what changed since epoch {}: the journal's open epoch is {}",
                            value(since), value(mount.journal.open_epoch())));
  }
  if (only_if_changed) {
    EPOCHFS_TRY(auto newest, mount.recorder.newest_if_unchanged(timeout));
    if (newest && newest->epoch == since) return Cut{since, newest->barrier_ns, nullptr};
  }
  EPOCHFS_TRY(auto log, mount.pins.make_log());
  std::unique_ptr<HeldPin> pin;  // dropped again if the epoch cannot be made durable
  EPOCHFS_TRY(journal::SealedEpoch sealed,
              mount.recorder.barrier(only_if_changed, timeout, [&](const journal::SealedEpoch& s) {
                pin = std::make_unique<HeldPin>(mount.pins, jobs,
                                                mount.pins.pin(since, s.epoch, std::move(log)));
              }));
  return Cut{sealed.epoch, sealed.barrier_ns, std::move(pin)};
}

// ---- the event loop ----

struct ControlServer::Loop {
  std::promise<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> started;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> stop;
  std::thread thread;
};

namespace {

// Accepts for as long as the promise is kept. Running out of descriptors passes.
kj::Promise<void> serve(capnp::TwoPartyServer& server, kj::ConnectionReceiver& receiver,
                        kj::Timer& timer) {
  // The limit holds for what comes; 0 would keep this side from passing any, too.
  // accept(2) can fail right here as well as later.
  return kj::evalNow([&] { return server.listenCapStreamReceiver(receiver, kMaxFdsPerMessage); })
      .catch_([&](kj::Exception&&) {
        return timer.afterDelay(100 * kj::MILLISECONDS).then([&] {
          return serve(server, receiver, timer);
        });
      });
}

}  // namespace

void ControlServer::run_loop(UniqueFd listening) {
  using Flags = kj::LowLevelAsyncIoProvider::Flags;
  auto io = kj::setupAsyncIo();
  kj::Timer& timer = io.provider->getTimer();
  auto receiver = io.lowLevelProvider->wrapListenSocketFd(
      listening.release(),
      Flags::TAKE_OWNERSHIP | Flags::ALREADY_CLOEXEC | Flags::ALREADY_NONBLOCK);
  capnp::TwoPartyServer server(kj::heap<MountServer>(mount_, *jobs_, timer));
  auto stop = kj::newPromiseAndCrossThreadFulfiller<void>();
  loop_->started.set_value(kj::mv(stop.fulfiller));
  stop.promise.exclusiveJoin(serve(server, *receiver, timer)).wait(io.waitScope);
}

ControlServer::ControlServer(ControlledMount mount)
    : mount_(std::move(mount)), jobs_(std::make_unique<Jobs>()), loop_(std::make_unique<Loop>()) {}

Result<std::unique_ptr<ControlServer>> ControlServer::start(ControlledMount mount) {
  EPOCHFS_TRY(UniqueFd listening, listen_unix(mount.volume.path() + "/" + journal::kControlSocket));
  std::unique_ptr<ControlServer> self(new ControlServer(std::move(mount)));
  self->loop_->thread =
      quiet_thread([s = self.get(), fd = listening.release()] { s->run_loop(UniqueFd(fd)); });
  self->loop_->stop = self->loop_->started.get_future().get();
  return self;
}

ControlServer::~ControlServer() {
  if (!loop_->thread.joinable()) return;
  ::unlinkat(mount_.volume.dir(), journal::kControlSocket, 0);
  loop_->stop->fulfill();
  loop_->thread.join();
  jobs_.reset();
}

}  // namespace epochfs::fs
