#include "replicator/daemon/control_server.h"

#include <fmt/format.h>

#include "journal/control/failure.h"
#include "journal/control/unix_rpc.h"
#include "journal/volume/cursors.h"
#include "journal/volume/volume.h"
#include "replicator/peer/dial.h"
#include "replicator/peer/proposal.h"
#include "replicator/relationship/status.h"
#include "replicator/target/directories.h"

namespace epochfs::replicator {
namespace {

constexpr auto kEndTimeout = 5 * kj::SECONDS;
constexpr auto kMountTimeout = 1 * kj::SECONDS;

tl::unexpected<Error> usage(std::string what) {
  return fail(std::move(what), 0, ExitStatus::kUsage);
}

Result<void> check_new(const RelationshipTable& table, const Relationship& r) {
  if (r.target_directory.empty() || r.target_directory[0] != '/' ||
      r.target_directory.size() >= rpc::MAX_PATH_BYTES) {
    return usage("option --target: \"" + r.target_directory + "\" is no absolute path");
  }
  if (r.peer.empty() || r.peer.size() > 255 ||
      r.peer.find_first_of(" /\t\n") != std::string::npos) {
    return usage("option --target-address: \"" + r.peer + "\" is no host name or address");
  }
  struct stat st;
  if (::stat(r.source_directory.c_str(), &st) != 0) {
    return fail_errno("source directory " + r.source_directory);
  }
  if (!S_ISDIR(st.st_mode)) return fail("source directory " + r.source_directory, ENOTDIR);
  for (const Relationship& other : table.list()) {
    if (other.role == rpc::Role::SOURCE && other.source_directory == r.source_directory &&
        other.target_directory == r.target_directory && other.peer == r.peer &&
        other.port == r.port && other.ended.empty()) {
      return fail(fmt::format("relationship {} has the same source and target already", other.id));
    }
  }
  return {};
}

// The mount is not told: it looks at the cursors anyway when it next has a reason to.
void forget_cursor(Storage& storage, const Relationship& r) {
  auto path = journal::journal_path_of(r.source_directory);
  if (!path) return;
  auto volume = journal::Volume::open(*path);
  if (!volume || volume->info().lineage != r.lineage) return;
  [[maybe_unused]] auto removed = journal::remove_cursor(storage, volume->dir(), r.id);
}

class ControlServer final : public rpc::Daemon::Server {
 public:
  explicit ControlServer(ControlContext& context) : c_(context) {}

  kj::Promise<void> info(InfoContext call) override {
    auto out = call.getResults();
    out.setPid(uint32_t(::getpid()));
    out.setListen(c_.listen);
    out.setStateDir(c_.state_dir);
    return kj::READY_NOW;
  }

  kj::Promise<void> create(CreateContext call) override {
    auto id = create_relationship(call.getParams().getRelationship());
    if (id) {
      call.getResults().setId(*id);
    } else {
      write_failure(call.getResults().initFailure(), id.error());
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> list(ListContext call) override {
    const auto all = c_.table.list();
    const auto damaged = c_.table.damaged();
    auto out = call.getResults().initRelationships(unsigned(all.size() + damaged.size()));
    unsigned i = 0;
    for (const Relationship& r : all) write_relationship(r, out[i++]);
    for (const DamagedRelationship& d : damaged) write_damaged(d, out[i++]);
    return kj::READY_NOW;
  }

  kj::Promise<void> authorize(AuthorizeContext call) override {
    const bool replace = call.getParams().getReplaceContents();
    return answer(call, decide(call.getParams().getId(), [&](Relationship& r) -> Result<void> {
                    if (r.decision == Decision::kAccepted) return {};
                    if (r.decision != Decision::kPending) {
                      return fail("authorize relationship " + r.id + ": it was declined already");
                    }
                    EPOCHFS_DO(check_target_directory(r.target_directory, replace));
                    r.decision = Decision::kAccepted;
                    r.replace_contents = replace;
                    return {};
                  }));
  }

  kj::Promise<void> decline(DeclineContext call) override {
    return answer(call, decide(call.getParams().getId(), [](Relationship& r) -> Result<void> {
                    if (r.decision == Decision::kAccepted) {
                      return fail("decline relationship " + r.id +
                                  ": it is accepted already; delete it instead");
                    }
                    r.decision = Decision::kDeclined;
                    return {};
                  }));
  }

  kj::Promise<void> enable(EnableContext call) override {
    const bool enabled = call.getParams().getEnabled();
    return answer(call,
                  change_source(call.getParams().getId(), [&](Relationship& r) -> Result<void> {
                    r.enabled = enabled;
                    return {};
                  }));
  }

  kj::Promise<void> edit(EditContext call) override {
    auto change = call.getParams().getChange();
    return answer(call, change_source(call.getParams().getId(),
                                      [&](Relationship& r) { return apply_edit(r, change); }));
  }

  kj::Promise<void> replicate(ReplicateContext call) override {
    auto r = c_.table.find(call.getParams().getId());
    if (r) {
      c_.board.ask(r->id);
    } else {
      write_failure(call.getResults().initFailure(), r.error());
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> status(StatusContext call) override {
    std::vector<Relationship> shown;
    std::vector<DamagedRelationship> damaged;
    const std::string id = call.getParams().getId();
    if (id.empty()) {
      shown = c_.table.list();
      damaged = c_.table.damaged();
    } else if (auto d = c_.table.find_damaged(id)) {
      damaged.push_back(*d);
    } else if (auto r = c_.table.find(id)) {
      shown.push_back(*r);
    } else {
      write_failure(call.getResults().initFailure(), r.error());
    }
    auto out = call.getResults().initStatuses(unsigned(shown.size() + damaged.size()));
    for (unsigned i = 0; i < damaged.size(); ++i) {
      describe_damaged(damaged[i], out[unsigned(shown.size()) + i]);
    }
    auto asked = kj::heapArrayBuilder<kj::Promise<void>>(shown.size());
    for (unsigned i = 0; i < shown.size(); ++i) {
      const Progress progress = c_.board.get(shown[i].id);
      describe(shown[i], progress, c_.clock, out[i]);
      asked.add(progress.journal.empty() ? kj::Promise<void>(kj::READY_NOW)
                                         : add_space(progress.journal, call, i));
    }
    return kj::joinPromises(asked.finish());
  }

  // Adds what the mount says about its journal's space. Adds nothing if the mount does not answer.
  kj::Promise<void> add_space(const std::string& journal, StatusContext call, unsigned index) {
    auto client =
        UnixRpcClient::connect(*c_.io.lowLevelProvider, journal + "/" + journal::kControlSocket);
    if (!client) return kj::READY_NOW;
    auto answer = c_.io.provider->getTimer().timeoutAfter(
        kMountTimeout, (*client)->bootstrap<rpc::Mount>().infoRequest().send());
    return answer
        .then(
            [call, index](capnp::Response<rpc::Mount::InfoResults>&& reply) mutable {
              auto statuses = call.getResults().getStatuses();
              statuses[index].setSpace(reply.getInfo().getSpace());
            },
            [](kj::Exception&&) {})
        .attach(kj::mv(*client));
  }

  kj::Promise<void> remove(RemoveContext call) override {
    if (auto damaged = c_.table.find_damaged(call.getParams().getId())) {
      return remove_damaged(call, *damaged);
    }
    auto r = c_.table.find(call.getParams().getId());
    if (!r) {
      write_failure(call.getResults().initFailure(), r.error());
      return kj::READY_NOW;
    }
    if (r->role == rpc::Role::TARGET) return answer(call, remove_target(*r));
    c_.stop_session(r->id);
    forget_cursor(c_.storage, *r);
    return tell_end(*r)
        .then([] { return std::string(); },
              [](kj::Exception&& e) -> std::string {
                return fmt::format("the target could not be told ({}); delete it there too",
                                   e.getDescription().cStr());
              })
        .then([this, call, r = *r](std::string warning) mutable {
          if (auto removed = forget(r.id); !removed) {
            write_failure(call.getResults().initFailure(), removed.error());
          }
          call.getResults().setWarning(warning);
        });
  }

  kj::Promise<void> wait(WaitContext call) override {
    auto params = call.getParams();
    auto r = c_.table.find(params.getId());
    if (!r) {
      write_failure(call.getResults().initFailure(), r.error());
      return kj::READY_NOW;
    }
    call.allowCancellation();  // ends when the command does
    auto state = kj::heap<Waiting>();
    state->id = r->id;
    state->epoch = EpochId{params.getEpoch()};
    if (params.getIdle()) {
      if (r->role != rpc::Role::SOURCE) {
        write_failure(call.getResults().initFailure(),
                      usage("wait --idle: say it on the source host").value());
        return kj::READY_NOW;
      }
    }
    const uint64_t ticket = c_.board.ask(r->id);  // so that nobody waits for the interval
    if (params.getIdle()) state->ticket = ticket;
    state->terms = c_.table.watch(r->id, state->wakeup);
    state->progress = c_.board.watch(r->id, state->wakeup);
    state->wakeup.attach(c_.io.unixEventPort);
    auto done = until_reached(*state);
    if (params.getTimeoutMs() > 0) {
      const uint64_t limit_ms = params.getTimeoutMs();
      auto over = c_.io.provider->getTimer().afterDelay(limit_ms * kj::MILLISECONDS);
      done = done.exclusiveJoin(over.then([this, limit_ms, &w = *state] {
        w.outcome = fail(fmt::format("{}: not reached within {:g} s: {}", waiting_for(w.id),
                                     double(limit_ms) / 1000, standing(w.id)),
                         0, ExitStatus::kTimedOut);
      }));
    }
    return done
        .then([call, &w = *state]() mutable {
          if (!w.outcome) write_failure(call.getResults().initFailure(), w.outcome.error());
        })
        .attach(kj::mv(state));
  }

 private:
  struct Waiting {
    std::string id;
    EpochId epoch{};
    uint64_t ticket = 0;  // of `idle`; 0: not asked for
    Result<void> outcome;
    LoopSignal wakeup;
    Watch terms, progress;  // of the table and the board
  };

  template <typename Call>
  kj::Promise<void> answer(Call& call, const Result<void>& outcome) {
    if (!outcome) write_failure(call.getResults().initFailure(), outcome.error());
    return kj::READY_NOW;
  }

  static std::string waiting_for(const std::string& id) { return "wait for relationship " + id; }

  static EpochId held(const Relationship& r, const Progress& p) {
    return r.role == rpc::Role::SOURCE ? r.cursor : p.recovery_epoch;
  }

  // How far the relationship has come, and what holds it up.
  std::string standing(const std::string& id) {
    auto r = c_.table.get(id);
    if (!r) return "deleted";
    const Progress p = c_.board.get(id);
    const EpochId epoch = held(*r, p);
    return fmt::format(
        "{}; the target holds {}", state_text(*r, p, c_.clock),
        epoch == EpochId{0} ? "no epoch yet" : fmt::format("epoch {}", value(epoch)));
  }

  // Resolves when there is an outcome.
  kj::Promise<void> until_reached(Waiting& w) {
    auto r = c_.table.get(w.id);
    if (!r) {
      w.outcome = fail(waiting_for(w.id) + ": it was deleted", 0, ExitStatus::kNoMatch);
      return kj::READY_NOW;
    }
    const Progress p = c_.board.get(w.id);
    if (!r->ended.empty() || r->decision == Decision::kDeclined ||
        r->decision == Decision::kDeleted) {
      w.outcome = fail(fmt::format("{}: {}", waiting_for(w.id), state_text(*r, p, c_.clock)), 0,
                       ExitStatus::kPartial);
      return kj::READY_NOW;
    }
    const bool reached =
        w.ticket > 0 ? p.served >= w.ticket : held(*r, p) >= std::max(w.epoch, EpochId{1});
    if (reached) return kj::READY_NOW;
    return w.wakeup.wait().then([this, &w] { return until_reached(w); });
  }

  Result<std::string> create_relationship(rpc::Relationship::Reader asked) {
    EPOCHFS_TRY(Relationship r, read_relationship(asked));
    r.id = new_relationship_id();
    r.role = rpc::Role::SOURCE;
    r.created_ns = c_.clock.now_ns();
    EPOCHFS_DO(check_new(c_.table, r));
    EPOCHFS_TRY(std::string journal, journal::journal_path_of(r.source_directory));
    EPOCHFS_TRY(journal::Volume volume, journal::Volume::open(journal));
    r.lineage = volume.info().lineage;
    EPOCHFS_DO(c_.table.add(r));
    c_.start_session(r.id);
    return r.id;
  }

  Result<void> decide(const std::string& id,
                      const std::function<Result<void>(Relationship&)>& change) {
    EPOCHFS_TRY(auto r, c_.table.find(id));
    if (r.role != rpc::Role::TARGET) {
      return usage("relationship " + r.id + " is decided on by the target's host, " + r.peer);
    }
    return c_.table.update(r.id, change);
  }

  Result<void> change_source(const std::string& id,
                             const std::function<Result<void>(Relationship&)>& change) {
    EPOCHFS_TRY(auto r, c_.table.find(id));
    if (r.role != rpc::Role::SOURCE) {
      return usage("relationship " + r.id + " is changed on the source's host, " + r.peer);
    }
    return c_.table.update(r.id, change);
  }

  static Result<void> apply_edit(Relationship& r, rpc::Edit::Reader change) {
    if (change.getTargetAddress().size() > 0) r.peer = change.getTargetAddress();
    if (change.getPort() != 0) r.port = change.getPort();
    if (change.getTimeZone().size() > 0) r.time_zone = change.getTimeZone();
    if (change.getSetBlackouts()) {
      EPOCHFS_TRY(r.windows, read_blackouts(change.getBlackouts()));
    }
    EPOCHFS_TRY(r.blackouts, BlackoutSchedule::make(r.windows, r.time_zone));
    if (change.getIntervalMs() != 0) {
      EPOCHFS_DO(check_interval(change.getIntervalMs()));
      r.interval_ms = change.getIntervalMs();
    }
    return {};
  }

  Result<void> forget(const std::string& id) {
    EPOCHFS_DO(c_.table.remove(id));
    c_.board.forget(id);
    return {};
  }

  // The record stays while the source may still ask what became of the relationship, unless that
  // had ended before.
  Result<void> remove_target(const Relationship& r) {
    // An open session ends when it sees this, and then discards the target too.
    EPOCHFS_DO(c_.table.update(r.id, [](Relationship& changed) -> Result<void> {
      changed.decision = Decision::kDeleted;
      return {};
    }));
    EPOCHFS_DO(discard_target(c_.storage, r));
    return r.ended.empty() ? Result<void>() : forget(r.id);
  }

  // Its file may not tell who the other host is, nor where the source's journal lies.
  kj::Promise<void> remove_damaged(RemoveContext& call, const DamagedRelationship& damaged) {
    if (auto removed = forget(damaged.id); !removed) return answer(call, removed);
    call.getResults().setWarning(
        fmt::format("relationship {} was damaged, so the other host was not told; delete it there "
                    "too. If the source is on this host, its journal keeps a cursor of it",
                    damaged.id));
    return kj::READY_NOW;
  }

  // Tells the target that the source ended the relationship.
  kj::Promise<void> tell_end(const Relationship& r) {
    if (r.decision == Decision::kDeclined || r.decision == Decision::kDeleted) return kj::READY_NOW;
    auto told = dial(*c_.io.provider, r.peer, r.port).then([r](kj::Own<PeerConnection> connection) {
      auto request = connection->host().endRequest();
      write_proposal(r, request.initProposal());
      request.setReason("deleted on the source host");
      return request.send().ignoreResult().attach(kj::mv(connection));
    });
    return c_.io.provider->getTimer().timeoutAfter(kEndTimeout, kj::mv(told));
  }

  ControlContext& c_;
};

}  // namespace

rpc::Daemon::Client make_control_server(ControlContext& context) {
  return kj::heap<ControlServer>(context);
}

}  // namespace epochfs::replicator
