#include "fs/process/control.h"

#include <capnp/rpc-twoparty.h>
#include <fmt/format.h>
#include <kj/async-io.h>
#include <kj/function.h>

#include <algorithm>
#include <future>
#include <optional>
#include <thread>

#include "fs/process/jobs.h"
#include "journal/control/failure.h"
#include "journal/control/unix_rpc.h"
#include "schema/control.capnp.h"

namespace epochfs::fs {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kMaxTimeout = std::chrono::hours(24);
// How long a call may take beyond its timeout: flushing and publishing cannot be interrupted.
constexpr milliseconds kGrace = std::chrono::seconds(30);

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
  // Runs f as a job, and then, in this thread, deliver with its answer; or with an error if that
  // takes too long.
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
  // The job writes it before it fulfils the promise; it is read only after that.
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
  return run<CutEpoch>(
      timeout,
      [&m = mount_, only_if_changed, timeout, label = std::move(label)] {
        return cut_epoch(m, only_if_changed, timeout, label);
      },
      [context](Result<CutEpoch>& done) mutable {
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
  return run<CutEpoch>(
      timeout,
      [&m = mount_, &jobs = jobs_, since, only_if_changed, timeout] {
        return cut_and_pin(m, jobs, since, only_if_changed, timeout);
      },
      [context](Result<CutEpoch>& done) mutable {
        auto results = context.getResults();
        if (!done) return write_failure(results.initFailure(), done.error());
        results.setEpoch(value(done->epoch));
        results.setBarrierTimeNs(done->barrier_ns);
        if (done->pin) results.setPin(kj::heap<PinnedEpochServer>(std::move(done->pin)));
      });
}

// ---- the event loop ----

struct ControlServer::Loop {
  std::promise<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> started;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> stop;
  std::thread thread;
};

namespace {

// Accepts connections for as long as the promise is kept, also after running out of descriptors.
kj::Promise<void> serve(capnp::TwoPartyServer& server, kj::ConnectionReceiver& receiver,
                        kj::Timer& timer) {
  // The limit is for incoming descriptors; 0 would keep this side from passing any, too. accept(2)
  // can fail right here as well as later.
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
