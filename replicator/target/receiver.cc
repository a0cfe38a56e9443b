#include "replicator/target/receiver.h"

#include <kj/debug.h>

#include "journal/base/logging.h"
#include "replicator/target/receive/messages.h"

namespace epochfs::replicator {
namespace {

// A reason, truncated to rpc::MAX_TEXT_BYTES.
std::string text(const Error& error) {
  std::string out = error.message();
  if (out.size() > rpc::MAX_TEXT_BYTES) out.resize(rpc::MAX_TEXT_BYTES);
  return out;
}

kj::Promise<void> failed_call(const Error& error) { return KJ_EXCEPTION(FAILED, text(error)); }

// Like EPOCHFS_TRY, in a function that returns a promise.
#define EPOCHFS_TAKE(declaration, expression)    \
  auto taken = (expression);                     \
  if (!taken) return failed_call(taken.error()); \
  declaration = *taken

template <typename T>
kj::Promise<void> settle(const Result<T>& result) {
  if (!result) return failed_call(result.error());
  return kj::READY_NOW;
}

void fill(rpc::Outcome::Builder out, const Outcome<void>& outcome) {
  if (outcome) {
    out.setOk();
  } else {
    replicator::fill(out, outcome.error());
  }
}

// What the Session and its Transfers share. Counts begin() calls, so that a Transfer can tell
// that a later one has superseded it.
struct SessionState {
  std::shared_ptr<Target> target;
  std::function<void(const RecoveryPoint&)> on_commit;
  uint64_t transfers = 0;
  kj::Promise<void> tidying = kj::READY_NOW;

  // Tidies when the event loop has nothing else to do: the answer to the commit goes first.
  void tidy_later() {
    tidying = kj::evalLast([this] {
                auto broken = kj::runCatchingExceptions([this] {
                  auto tidied = target->tidy();
                  if (!tidied) report("tidying up a stage failed", tidied.error().error);
                });
                KJ_IF_MAYBE (e, broken) {
                  report("tidying up a stage failed", Error{e->getDescription().cStr()});
                }
              }).eagerlyEvaluate(nullptr);
  }

  ~SessionState() {
    // What cannot be kept will be sent again.
    auto kept = target->checkpoint();
    if (!kept) report("checkpoint of a stage failed", kept.error());
  }

 private:
  void report(const char* what, const Error& error) {
    log::warning(what, {{"relationship", target->relationship()}, {"error", error}});
  }
};

class TransferServer final : public rpc::Transfer::Server {
 public:
  explicit TransferServer(std::shared_ptr<SessionState> session)
      : session_(std::move(session)), number_(session_->transfers) {}

  kj::Promise<void> nodes(NodesContext context) override {
    EPOCHFS_TAKE(Stage * stage, current());
    auto parsed = parse_nodes(context.getParams().getNodes());
    if (!parsed) return failed_call(parsed.error());
    auto needs = stage->nodes(std::move(*parsed));
    if (!needs) return failed_call(needs.error());
    auto out = context.getResults().initNeeds(unsigned(needs->size()));
    for (unsigned i = 0; i < needs->size(); ++i) {
      out[i].setIndex((*needs)[i].index);
      out[i].setResumeAt((*needs)[i].resume_at);
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> blocks(BlocksContext context) override {
    EPOCHFS_TAKE(Stage * stage, current());
    auto parsed = parse_blocks(context.getParams().getBlocks());
    return parsed ? settle(stage->blocks(parsed->blocks)) : failed_call(parsed.error());
  }

  kj::Promise<void> names(NamesContext context) override {
    EPOCHFS_TAKE(Stage * stage, current());
    auto parsed = parse_names(context.getParams().getNames());
    return parsed ? settle(stage->names(*parsed)) : failed_call(parsed.error());
  }

  kj::Promise<void> listed(ListedContext context) override {
    EPOCHFS_TAKE(Stage * stage, current());
    auto parsed = parse_files(context.getParams().getDirectories());
    return parsed ? settle(stage->listed(*parsed)) : failed_call(parsed.error());
  }

  kj::Promise<void> forget(ForgetContext context) override {
    EPOCHFS_TAKE(Stage * stage, current());
    auto parsed = parse_files(context.getParams().getFiles());
    return parsed ? settle(stage->forget(*parsed)) : failed_call(parsed.error());
  }

  kj::Promise<void> commit(CommitContext context) override {
    EPOCHFS_TAKE([[maybe_unused]] Stage * stage, current());
    auto plan = parse_plan(context.getParams().getPlan());
    if (!plan) return failed_call(plan.error());
    auto results = context.getResults();
    fill(results.initOutcome(), session_->target->commit(*plan));
    const RecoveryPoint point = session_->target->state();
    replicator::fill(results.initState(), point);
    session_->on_commit(point);
    session_->tidy_later();
    return kj::READY_NOW;
  }

 private:
  Result<Stage*> current() {
    Stage* stage = session_->target->stage();
    if (session_->target->stopped())
      return fail("go on with a transfer: another session has taken over");
    if (!stage || session_->transfers != number_) return fail("go on with a transfer: it is over");
    return stage;
  }

  std::shared_ptr<SessionState> session_;
  uint64_t number_;
};

class SessionServer final : public rpc::Session::Server {
 public:
  SessionServer(std::shared_ptr<Target> target, std::function<void(const RecoveryPoint&)> on_commit)
      : session_(std::make_shared<SessionState>()) {
    session_->target = std::move(target);
    session_->on_commit = std::move(on_commit);
  }

  kj::Promise<void> begin(BeginContext context) override {
    auto plan = parse_plan(context.getParams().getPlan());
    if (!plan) return failed_call(plan.error());
    auto begun = session_->target->begin(*plan);
    auto results = context.getResults();
    fill(results.initOutcome(), begun);
    ++session_->transfers;
    if (begun) results.setTransfer(kj::heap<TransferServer>(session_));
    return kj::READY_NOW;
  }

 private:
  std::shared_ptr<SessionState> session_;
};

}  // namespace

rpc::Session::Client serve_session(std::shared_ptr<Target> target,
                                   std::function<void(const RecoveryPoint&)> on_commit) {
  return kj::heap<SessionServer>(std::move(target), std::move(on_commit));
}

void fill(rpc::TargetState::Builder out, const RecoveryPoint& state) {
  out.setCursor(state.cursor);
  out.setStateHash(state.state_hash);
  out.setBarrierTimeNs(state.barrier_ns);
  out.setStagedBase(state.staged_base);
}

void fill(rpc::Outcome::Builder out, const Refusal& refusal) {
  const std::string reason = text(refusal.error);
  switch (refusal.kind) {
    case Refusal::Kind::kFailed:
    case Refusal::Kind::kBusy: out.setFailed(reason); break;
    case Refusal::Kind::kUnknownState: out.setUnknownState(reason); break;
    case Refusal::Kind::kTargetLost: out.setTargetLost(reason); break;
  }
}

}  // namespace epochfs::replicator
