#include "replicator/source/session.h"

#include <fmt/format.h>

#include <atomic>
#include <thread>

#include "replicator/peer/dial.h"
#include "replicator/peer/proposal.h"
#include "replicator/source/transfer/history.h"
#include "replicator/source/transfer/transfer_calls.h"
#include "replicator/source/transfer/transfers.h"

namespace epochfs::replicator {
namespace {

using namespace std::chrono_literals;

constexpr auto kFirstRetry = 1 * kj::SECONDS;
constexpr auto kLastRetry = 15 * kj::SECONDS;      // while the target does not answer
constexpr auto kLastLocalRetry = 2 * kj::SECONDS;  // while the volume is not mounted
// A change of the system clock shifts blackout windows, so they are looked at this often.
constexpr auto kClockCheck = 5 * kj::SECONDS;

// What a connection was made for. When this changes, the connection ends.
std::string terms_of(const Relationship& r) {
  return fmt::format("{}|{}|{}|{}", r.peer, r.port, static_cast<int>(r.decision), r.ended);
}

Decision decision_of(rpc::Decision decision) {
  switch (decision) {
    case rpc::Decision::PENDING: return Decision::kPending;
    case rpc::Decision::ACCEPTED: return Decision::kAccepted;
    case rpc::Decision::DELETED: return Decision::kDeleted;
    case rpc::Decision::DECLINED:
    case rpc::Decision::REFUSED: return Decision::kDeclined;
  }
  return Decision::kPending;
}

std::string text_of(const kj::Exception& e) { return e.getDescription().cStr(); }

}  // namespace

struct SourceSession::Impl {
  RelationshipTable& table;
  ProgressBoard& board;
  Storage& storage;
  const Clock& clock;
  const std::string id;
  LoopSignal wakeup;
  std::atomic<bool> stop{false};
  std::thread thread;

  kj::AsyncIoContext* io = nullptr;
  kj::Own<kj::PromiseFulfiller<void>> waker;  // of what waits for a change

  Impl(RelationshipTable& table, ProgressBoard& board, Storage& storage, const Clock& clock,
       std::string id)
      : table(table), board(board), storage(storage), clock(clock), id(std::move(id)) {}

  // ---- waiting ----

  bool may_move() {
    auto r = table.get(id);
    return !stop && r && r->enabled && r->ended.empty() && r->decision != Decision::kDeclined &&
           r->decision != Decision::kDeleted && !r->blackouts.active(clock.now());
  }

  // Only data has to wait; the target's administrator can decide at any time.
  bool may_agree() {
    auto r = table.get(id);
    return !stop && r && r->ended.empty() && r->decision == Decision::kPending;
  }

  bool may_connect() { return may_move() || may_agree(); }

  kj::Duration until_next_look() {
    auto r = table.get(id);
    if (!r) return kClockCheck;
    auto now = clock.now();
    auto change = r->blackouts.next_change(now);
    if (!change) return kClockCheck;
    auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(*change - now).count() + 1;
    return std::min<kj::Duration>(kClockCheck, ms * kj::MILLISECONDS);
  }

  // Resolves when the session must stop what it does. Fulfils `waker` with every signal.
  kj::Promise<void> leave_off(std::string terms) {
    auto r = table.get(id);
    if (!may_connect() || !r || terms_of(*r) != terms) return kj::READY_NOW;
    return wakeup.wait()
        .exclusiveJoin(io->provider->getTimer().afterDelay(until_next_look()))
        .then([this, terms = std::move(terms)]() mutable {
          if (waker) waker->fulfill();
          return leave_off(std::move(terms));
        });
  }

  // Waits for a signal, or for the given time. Not during a connection.
  void pause(kj::Duration at_most) {
    wakeup.wait().exclusiveJoin(io->provider->getTimer().afterDelay(at_most)).wait(io->waitScope);
  }

  // Waits the whole time, unless the terms change: then a new attempt is due at once.
  void back_off(kj::Duration duration, const std::string& terms) {
    auto& timer = io->provider->getTimer();
    const auto end = timer.now() + duration;
    while (!stop && timer.now() < end) {
      auto r = table.get(id);
      if (!r || terms_of(*r) != terms || !may_connect()) return;
      pause(std::min(end - timer.now(), until_next_look()));
    }
  }

  // ---- one connection ----

  Result<void> hello(Interruptible& loop, rpc::ReplicationHost::Client& host) {
    auto request = host.helloRequest();
    request.setProtocol(rpc::PROTOCOL_VERSION);
    introduce_host(request.initHost());
    auto reply = loop.wait(io->provider->getTimer().timeoutAfter(kDialTimeout, request.send()));
    if (reply.getProtocol() != rpc::PROTOCOL_VERSION) {
      return fail(fmt::format("the target speaks protocol {} only, this host {}; upgrade the older",
                              reply.getProtocol(), uint32_t(rpc::PROTOCOL_VERSION)));
    }
    return {};
  }

  // Files the request if it is new, and waits for the decision. False: it was refused.
  Result<bool> agree(Interruptible& loop, rpc::ReplicationHost::Client& host,
                     const Relationship& r) {
    auto propose = host.proposeRequest();
    write_proposal(r, propose.initProposal());
    auto first = loop.wait(propose.send());
    Decision decision = decision_of(first.getDecision());
    std::string reason = first.getReason();
    if (decision == Decision::kPending) {
      note_connected();
      auto await = host.awaitDecisionRequest();
      write_proposal(r, await.initProposal());
      auto decided = loop.wait(await.send());
      decision = decision_of(decided.getDecision());
      reason = std::string(decided.getReason());
    }
    if (decision == r.decision) return decision == Decision::kAccepted;
    EPOCHFS_DO(table.update(id, [&](Relationship& changed) -> Result<void> {
      changed.decision = decision;
      if (decision == Decision::kDeclined && !reason.empty())
        changed.ended = reason_of_peer(reason);
      return {};
    }));
    return decision == Decision::kAccepted;
  }

  void note_connected() {
    board.update(id, [](Progress& p) {
      p.connected = true;
      p.mounted = true;
      p.unreachable = false;
      p.error.clear();
    });
  }

  // Why everything has to be compared; nullopt: the target holds what this side believes. Adopts a
  // commit whose acknowledgement was lost.
  Result<std::optional<std::string>> reconcile(TransferContext& context,
                                               rpc::TargetState::Reader state) {
    auto r = table.get(id);
    if (!r) return fail("relationship is gone");
    const TargetHolds target{EpochId{state.getCursor()}, state.getStateHash()};
    // A manifest that cannot be read knows no epoch.
    auto read = sealed_epoch(context.volume.volume(), target.cursor);
    if (!read && read.error().status != ExitStatus::kCorrupt) return tl::unexpected(read.error());
    const auto sealed = read ? *read : std::nullopt;
    const Conclusion conclusion = conclude(*r, target, sealed);
    if (conclusion == Conclusion::kSame) return std::optional<std::string>();
    if (conclusion == Conclusion::kAcknowledgementLost) {
      EPOCHFS_DO(advance_cursor(context, target.cursor, target.state_hash, sealed->barrier_ns));
      return std::optional<std::string>();
    }
    return std::optional(reason_of(conclusion, target));
  }

  // Runs until something breaks (kj::Exception or an error) or the session must stop.
  Result<void> run_connection(Interruptible& loop, const Relationship& r) {
    auto connection = loop.wait(dial(*io->provider, r.peer, r.port));
    auto host = connection->host();
    EPOCHFS_DO(hello(loop, host));
    EPOCHFS_TRY(bool agreed, agree(loop, host, r));
    if (!agreed || !may_move()) return {};

    auto volume = VolumeLink::connect(*io->lowLevelProvider, loop, r.source_directory);
    if (!volume) {
      note_unmounted();
      return tl::unexpected(volume.error());
    }
    if ((*volume)->volume().info().lineage != r.lineage) {
      return fail(
          fmt::format("{} holds another volume than the one this relationship is for "
                      "(lineage {} instead of {})",
                      r.source_directory, (*volume)->volume().info().lineage.to_string(),
                      r.lineage.to_string()));
    }
    auto open = host.openRequest();
    write_proposal(r, open.initProposal());
    auto opened = loop.wait(open.send());
    auto outcome = opened.getOutcome();
    if (outcome.isTargetLost())
      return fail("target: " + reason_of_peer(outcome.getTargetLost().cStr()));
    if (outcome.isFailed()) return fail("target: " + reason_of_peer(outcome.getFailed().cStr()));
    note_connected();

    TransferContext context{
        table, board, storage, loop, io->provider->getTimer(), **volume, opened.getSession(), id};
    EPOCHFS_TRY(auto differs, reconcile(context, opened.getState()));
    auto broken = broken_when((*volume)->on_disconnect(), "the mount has ended")
                      .exclusiveJoin(broken_when(connection->on_disconnect(),
                                                 "the target ended the connection"));
    return replicate(context, EpochId{opened.getState().getCursor()}, std::move(differs),
                     kj::mv(broken));
  }

  // Breaks, with the text, when the promise resolves.
  static kj::Promise<void> broken_when(kj::Promise<void> gone, const char* text) {
    return gone.then([text]() -> kj::Promise<void> { return KJ_EXCEPTION(DISCONNECTED, text); });
  }

  // `differs`: why the target, which holds `held`, has to be compared first.
  Result<void> replicate(TransferContext& context, EpochId held, std::optional<std::string> differs,
                         kj::Promise<void> connections) {
    auto broken = connections.fork();
    for (;;) {
      auto r = table.get(id);
      if (!r) return {};
      const uint64_t asked = board.get(id).asked;
      std::optional<std::string> everything;  // has to be compared: why
      if (r->cursor == EpochId{0}) {
        everything = "it is the first copy";
      } else if (differs) {
        everything = differs;
      } else if (r->walk_since != EpochId{0}) {
        everything = "a comparison was broken off";
      } else {
        EPOCHFS_TRY(everything, replicate_changes(context));
      }
      if (everything) {
        EPOCHFS_DO(replicate_everything(context, differs ? held : r->cursor, *everything));
        differs.reset();
      }
      board.update(id, [&](Progress& p) {
        p.error.clear();
        p.served = std::max(p.served, asked);
      });
      wait_interval(context.loop, broken);
    }
  }

  // Waits until the next barrier is due or somebody asks for one. Throws when a connection breaks:
  // while nothing changes, nothing else would notice.
  void wait_interval(Interruptible& loop, kj::ForkedPromise<void>& broken) {
    auto& timer = io->provider->getTimer();
    const auto begin = timer.now();
    for (;;) {
      auto r = table.get(id);  // the interval may be changed meanwhile
      Progress p = board.get(id);
      if (!r || p.asked > p.served) return;
      const auto end = begin + r->interval_ms * kj::MILLISECONDS;
      if (timer.now() >= end) return;
      auto pair = kj::newPromiseAndFulfiller<void>();
      waker = kj::mv(pair.fulfiller);
      loop.wait(pair.promise.exclusiveJoin(timer.atTime(end)).exclusiveJoin(broken.addBranch()));
    }
  }

  // ---- the thread ----

  void note_failure(const std::string& text, bool unreachable) {
    board.update(id, [&](Progress& p) {
      p.error = text;
      p.unreachable = unreachable;
      p.connected = false;
      p.phase = Progress::Phase::kIdle;
    });
  }

  // The volume may have come back since it was last looked for.
  void look_for_volume() {
    auto r = table.get(id);
    const Progress known = board.get(id);
    if (!r || (known.mounted && !known.journal.empty())) return;
    auto journal = journal::journal_path_of(r->source_directory);
    if (!journal) return;
    board.update(id, [&](Progress& p) {
      if (!p.mounted) p.error.clear();
      p.mounted = true;
      p.journal = *journal;
    });
  }

  void note_unmounted() {
    board.update(id, [](Progress& p) {
      p.mounted = false;
      p.journal.clear();
    });
  }

  // One attempt. True: it ended well or for a good reason, so the next may follow at once.
  bool attempt() {
    auto r = table.get(id);
    const std::string terms = terms_of(*r);
    look_for_volume();
    Interruptible loop(io->waitScope, leave_off(terms));
    std::string text;
    bool unreachable = false;
    auto broken = kj::runCatchingExceptions([&] {
      auto outcome = run_connection(loop, *r);
      if (!outcome) text = outcome.error().message();
    });
    waker = nullptr;
    KJ_IF_MAYBE (e, broken) {
      if (loop.interrupted()) {
        note_failure("", false);
        return true;
      }
      text = reason_of_peer(text_of(*e));
      // The directory tells which of the two connections broke.
      if (auto mounted = journal::journal_path_of(r->source_directory); !mounted) {
        note_unmounted();
        note_failure(mounted.error().message(), false);
        return false;
      }
      unreachable = e->getType() == kj::Exception::Type::DISCONNECTED ||
                    e->getType() == kj::Exception::Type::OVERLOADED || !board.get(id).connected;
    }
    note_failure(text, unreachable);
    return text.empty();
  }

  void run() {
    auto context = kj::setupAsyncIo();
    io = &context;
    wakeup.attach(context.unixEventPort);
    const Watch terms = table.watch(id, wakeup);
    const Watch asked = board.watch_asked(id, wakeup);
    kj::Duration retry = kFirstRetry;
    while (!stop && table.get(id)) {
      if (!may_connect()) {
        look_for_volume();
        pause(until_next_look());
        continue;
      }
      if (attempt()) {
        retry = kFirstRetry;
        continue;
      }
      if (auto r = table.get(id)) back_off(retry, terms_of(*r));
      const bool local = !board.get(id).mounted;
      retry = std::min<kj::Duration>(retry * 2, local ? kLastLocalRetry : kLastRetry);
    }
    wakeup.detach();
    io = nullptr;
  }
};

SourceSession::SourceSession(RelationshipTable& table, ProgressBoard& board, Storage& storage,
                             const Clock& clock, std::string relationship_id)
    : impl_(std::make_unique<Impl>(table, board, storage, clock, std::move(relationship_id))) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

SourceSession::~SourceSession() {
  impl_->stop = true;
  impl_->wakeup.signal();
  impl_->thread.join();
}

}  // namespace epochfs::replicator
