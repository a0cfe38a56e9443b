#include "replicator/peer/peers.h"

#include <arpa/inet.h>
#include <kj/common.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "journal/base/logging.h"
#include "replicator/peer/proposal.h"
#include "replicator/target/directories.h"
#include "replicator/target/receiver.h"

namespace epochfs::replicator {
namespace {

// How long open() waits for a superseded session to end: it may be applying an epoch.
constexpr auto kPatience = 60 * kj::SECONDS;
constexpr auto kLookAgain = 20 * kj::MILLISECONDS;

std::string peer_text(const sockaddr_storage& a) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (a.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(a).sin_addr, text, sizeof text);
  } else if (a.ss_family == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(a).sin6_addr, text, sizeof text);
  }
  return text;
}

struct Answer {
  rpc::Decision decision;
  std::string reason;
};

Answer answer_of(const Relationship& r) {
  if (!r.ended.empty()) return {rpc::Decision::DELETED, r.ended};
  switch (r.decision) {
    case Decision::kPending: return {rpc::Decision::PENDING, ""};
    case Decision::kAccepted: return {rpc::Decision::ACCEPTED, ""};
    case Decision::kDeclined: return {rpc::Decision::DECLINED, ""};
    case Decision::kDeleted: return {rpc::Decision::DELETED, ""};
  }
  return {rpc::Decision::REFUSED, ""};
}

}  // namespace

// ---- what a peer may ask for, on one connection ----

class Peers::Host final : public rpc::ReplicationHost::Server {
 public:
  Host(Peers& peers, Connection& connection, kj::Timer& timer, std::string peer)
      : peers_(peers),
        table_(peers.table_),
        board_(peers.board_),
        connection_(connection),
        timer_(timer),
        peer_(std::move(peer)) {}
  ~Host() {
    if (opened_.empty()) return;
    Lock lock(peers_.mutex_);
    auto at = peers_.opened_.find(opened_);
    if (at == peers_.opened_.end() || at->second.connection != &connection_) return;
    peers_.opened_.erase(at);
    note_connected(opened_, false);
  }

  kj::Promise<void> hello(HelloContext call) override {
    auto out = call.getResults();
    out.setProtocol(rpc::PROTOCOL_VERSION);
    introduce_host(out.initHost());
    return kj::READY_NOW;
  }

  kj::Promise<void> propose(ProposeContext call) override {
    auto proposal = call.getParams().getProposal();
    refuse_damaged(proposal);
    write(call.getResults(), ask(proposal));
    return kj::READY_NOW;
  }

  // One at a time: a second call breaks the first.
  kj::Promise<void> awaitDecision(AwaitDecisionContext call) override {
    auto proposal = call.getParams().getProposal();
    refuse_damaged(proposal);
    awaited_ = watch(proposal);
    Answer answer = ask(proposal);
    if (answer.decision == rpc::Decision::PENDING) {
      auto changed = kj::newPromiseAndFulfiller<void>();
      awaiting_ = kj::mv(changed.fulfiller);
      return changed.promise.then([this, call]() mutable { return awaitDecision(call); });
    }
    write(call.getResults(), answer);
    return kj::READY_NOW;
  }

  kj::Promise<void> open(OpenContext call) override {
    auto results = call.getResults();
    Answer answer = ask(call.getParams().getProposal());
    if (answer.decision != rpc::Decision::ACCEPTED) {
      results.initOutcome().setFailed("the relationship is not accepted");
      return kj::READY_NOW;
    }
    call.allowCancellation();
    held_ = watch(call.getParams().getProposal());
    return open_when_free(call, timer_.now() + kPatience);
  }

  kj::Promise<void> end(EndContext call) override {
    auto proposal = read_proposal(call.getParams().getProposal());
    if (!proposal) return kj::READY_NOW;
    auto r = table_.get(proposal->id);
    if (!r || !same_terms(*r, *proposal)) return kj::READY_NOW;
    const std::string reason = reason_of_peer(call.getParams().getReason().cStr());
    [[maybe_unused]] auto updated =
        table_.update(r->id, [&](Relationship& changed) -> Result<void> {
          if (changed.ended.empty())
            changed.ended = reason.empty() ? "ended by the source" : reason;
          return {};
        });
    return kj::READY_NOW;
  }

  const std::string& opened() const { return opened_; }

  // The connection was signalled: a relationship that it watches may have changed.
  void woken() {
    if (awaiting_) awaiting_->fulfill();
  }

  // Whether what this connection was opened for still holds.
  bool may_go_on() const {
    if (connection_.superseded) return false;
    if (opened_.empty()) return true;
    auto r = table_.get(opened_);
    return r && answer_of(*r).decision == rpc::Decision::ACCEPTED;
  }

 private:
  template <typename Results>
  static void write(Results&& out, const Answer& answer) {
    out.setDecision(answer.decision);
    out.setReason(answer.reason);
  }

  // Breaks the call if this host's own record is damaged: any decision would be a guess, and one
  // that refuses would end the relationship on the source for good. So the source tries again.
  void refuse_damaged(rpc::Proposal::Reader proposal) {
    const std::string id = proposal.getRelationship();
    if (!table_.is_damaged(id)) return;
    kj::throwFatalException(KJ_EXCEPTION(
        FAILED, "the target's record of this relationship is damaged; see there: epochfs status",
        id));
  }

  // Files the proposal if it is new, and says what has become of it.
  Answer ask(rpc::Proposal::Reader from) {
    auto proposal = read_proposal(from);
    if (!proposal) return {rpc::Decision::REFUSED, proposal.error().message()};
    if (auto known = table_.get(proposal->id)) {
      if (!same_terms(*known, *proposal)) {
        return {rpc::Decision::REFUSED, "another relationship has this id here"};
      }
      return answer_of(*known);
    }
    Relationship r;
    r.id = proposal->id;
    r.role = rpc::Role::TARGET;
    r.source_directory = proposal->source_directory;
    r.target_directory = proposal->target_directory;
    r.lineage = proposal->lineage;
    r.peer = peer_;
    r.created_ns = peers_.clock_.now_ns();
    if (auto added = table_.add(r); !added) {
      return {rpc::Decision::REFUSED, added.error().message()};
    }
    return {rpc::Decision::PENDING, ""};
  }

  // Before the proposal is looked at, so that no change in between goes unnoticed. A malformed one
  // is refused at once: there is nothing to watch.
  Watch watch(rpc::Proposal::Reader from) {
    auto proposal = read_proposal(from);
    return proposal ? table_.watch(proposal->id, connection_.wakeup) : Watch();
  }

  // The source's earlier session may still be on its way out, on another thread.
  kj::Promise<void> open_when_free(OpenContext call, kj::TimePoint until) {
    auto r = table_.get(std::string(call.getParams().getProposal().getRelationship()));
    // The acceptance may have been taken back during the wait.
    if (!r || answer_of(*r).decision != rpc::Decision::ACCEPTED) {
      call.getResults().initOutcome().setFailed("the relationship is not accepted");
      return kj::READY_NOW;
    }
    auto opened = Target::open(peers_.storage_, target_options(*r));
    if (!opened && opened.error().kind == Refusal::Kind::kBusy && timer_.now() < until) {
      peers_.supersede(r->id);
      return timer_.afterDelay(kLookAgain).then([this, call, until]() mutable {
        return open_when_free(call, until);
      });
    }
    if (opened) {
      take_over(*r, *std::move(opened), call.getResults());
    } else {
      fill(call.getResults().initOutcome(), opened.error());
    }
    return kj::READY_NOW;
  }

  void take_over(const Relationship& r, std::shared_ptr<Target> target,
                 rpc::ReplicationHost::OpenResults::Builder results) {
    if (!r.established) {
      auto noted = table_.update(r.id, [](Relationship& changed) -> Result<void> {
        changed.established = true;
        return {};
      });
      if (!noted) return results.initOutcome().setFailed(noted.error().message());
    }
    fill(results.initState(), target->state());
    note_recovery_point(board_, r.id, target->state());
    results.initOutcome().setOk();
    results.setSession(serve_session(target, [this, id = r.id](const RecoveryPoint& point) {
      note_recovery_point(board_, id, point);
    }));
    opened_ = r.id;
    note_connected(opened_, true);
    Lock lock(peers_.mutex_);
    peers_.opened_[r.id] = {target, &connection_};
  }

  void note_connected(const std::string& id, bool connected) {
    board_.update(id, [&](Progress& p) { p.connected = connected; });
  }

  Peers& peers_;
  RelationshipTable& table_;
  ProgressBoard& board_;
  Connection& connection_;
  kj::Timer& timer_;
  std::string peer_;
  std::string opened_;  // the relationship for which a session was opened
  // What this connection watches, once it has asked for something: the relationship whose decision
  // it awaits, and the one that it has opened.
  Watch awaited_, held_;
  kj::Own<kj::PromiseFulfiller<void>> awaiting_;
};

// ---- connections ----

Peers::Peers(RelationshipTable& table, ProgressBoard& board, Storage& storage, const Clock& clock,
             UniqueFd listener)
    : table_(table),
      board_(board),
      storage_(storage),
      clock_(clock),
      listener_(std::move(listener)),
      stop_event_(::eventfd(0, EFD_CLOEXEC)) {
  EPOCHFS_CHECK(stop_event_);
  thread_ = std::thread([this] { accept_loop(); });
}

Peers::~Peers() {
  stop_ = true;
  uint64_t one = 1;
  EPOCHFS_CHECK(::write(stop_event_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
  reap(true);
}

void Peers::accept_loop() {
  while (!stop_) {
    pollfd watched[] = {{listener_.get(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}};
    if (::poll(watched, 2, -1) < 0) continue;
    reap(false);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    UniqueFd fd(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) continue;
    Lock lock(mutex_);
    if (connections_.size() >= kMaxConnections) continue;  // closed at once
    tune_tcp(fd.get());
    Connection& connection = connections_.emplace_back();
    connection.thread =
        std::thread([this, &connection, fd = fd.release(), peer = peer_text(address)] {
          serve(connection, UniqueFd(fd), peer);
          connection.done = true;
        });
  }
}

void Peers::serve(Connection& connection, UniqueFd fd, std::string peer) {
  std::string relationship;  // the one that was opened on this connection
  auto io = kj::setupAsyncIo();
  connection.wakeup.attach(io.unixEventPort);
  auto broken = kj::runCatchingExceptions([&] {
    auto stream = io.lowLevelProvider->wrapSocketFd(
        fd.release(), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP |
                          kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC |
                          kj::LowLevelAsyncIoProvider::ALREADY_NONBLOCK);
    auto server = kj::heap<Host>(*this, connection, io.provider->getTimer(), peer);
    Host& host = *server;
    capnp::TwoPartyVatNetwork network(*stream, capnp::rpc::twoparty::Side::SERVER,
                                      peer_reader_options());
    auto rpc = capnp::makeRpcServer(network, rpc::ReplicationHost::Client(kj::mv(server)));
    std::function<kj::Promise<void>()> until_over = [&]() -> kj::Promise<void> {
      if (stop_ || !host.may_go_on()) return kj::READY_NOW;
      return connection.wakeup.wait().then([&] {
        host.woken();
        return until_over();
      });
    };
    KJ_DEFER(relationship = host.opened());
    network.onDisconnect().exclusiveJoin(until_over()).wait(io.waitScope);
  });
  KJ_IF_MAYBE (e, broken) {
    if (e->getType() != kj::Exception::Type::DISCONNECTED) {
      log::warning("a peer's connection broke",
                   {{"peer", peer}, {"reason", e->getDescription().cStr()}});
    }
  }
  connection.wakeup.detach();
  if (auto r = table_.get(relationship); r && r->decision == Decision::kDeleted) {
    [[maybe_unused]] auto discarded = discard_target(storage_, *r);
  }
}

// Joins connections that have ended, or tells all to end and joins them. Joins without the lock,
// since a thread takes it once more on its way out.
void Peers::reap(bool all) {
  std::list<Connection> ended;
  {
    Lock lock(mutex_);
    for (auto at = connections_.begin(); at != connections_.end();) {
      auto current = at++;
      if (all) current->wakeup.signal();
      if (all || current->done) ended.splice(ended.end(), connections_, current);
    }
  }
  for (Connection& connection : ended) connection.thread.join();
}

// Ends the connection that has the relationship open. Its peer has come back on another
// connection and does not listen to this one.
void Peers::supersede(const std::string& relationship) {
  Lock lock(mutex_);
  auto at = opened_.find(relationship);
  if (at == opened_.end()) return;
  if (auto target = at->second.target.lock()) target->stop();
  at->second.connection->superseded = true;
  at->second.connection->wakeup.signal();
}

}  // namespace epochfs::replicator
