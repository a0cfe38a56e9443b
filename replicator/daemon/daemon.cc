#include "replicator/daemon/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <kj/async-unix.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <csignal>
#include <map>

#include "journal/base/limits.h"
#include "journal/base/logging.h"
#include "journal/control/unix_rpc.h"
#include "journal/volume/volume.h"
#include "replicator/daemon/control_server.h"
#include "replicator/peer/peers.h"
#include "replicator/peer/transport.h"
#include "replicator/source/session.h"
#include "replicator/target/directories.h"

namespace epochfs::replicator {
namespace {

// One daemon for each state directory.
Result<UniqueFd> lock_state(const std::string& state) {
  const std::string path = state + "/serve.lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("open " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno("lock " + path);
    return fail("another epochfs serve uses the state directory " + state +
                "; stop it, or name another with --state");
  }
  return fd;
}

void raise_descriptor_limit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<void> make_socket_directory(const std::string& socket) {
  std::string dir = socket.substr(0, socket.rfind('/'));
  if (dir.empty() || dir == socket) return {};
  if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno("make directory " + dir);
  }
  return {};
}

// One command's connection to the control socket.
struct ControlConnection {
  kj::Own<kj::AsyncIoStream> stream;
  capnp::TwoPartyVatNetwork network;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc;

  ControlConnection(kj::Own<kj::AsyncIoStream> s, rpc::Daemon::Client daemon)
      : stream(kj::mv(s)),
        network(*stream, capnp::rpc::twoparty::Side::SERVER),
        rpc(capnp::makeRpcServer(network, kj::mv(daemon))) {}
};

// Accepts commands until it is destroyed.
class ControlListener final : kj::TaskSet::ErrorHandler {
 public:
  ControlListener(kj::Own<kj::ConnectionReceiver> receiver, rpc::Daemon::Client daemon)
      : receiver_(kj::mv(receiver)), daemon_(kj::mv(daemon)), tasks_(*this) {
    accept();
  }

 private:
  void accept() {
    tasks_.add(receiver_->accept().then([this](kj::Own<kj::AsyncIoStream> stream) {
      auto connection = kj::heap<ControlConnection>(kj::mv(stream), daemon_);
      auto gone = connection->network.onDisconnect();
      tasks_.add(gone.attach(kj::mv(connection)));
      accept();
    }));
  }
  void taskFailed(kj::Exception&& e) override {
    log::warning("a connection to the control socket broke",
                 {{"reason", e.getDescription().cStr()}});
  }

  kj::Own<kj::ConnectionReceiver> receiver_;
  rpc::Daemon::Client daemon_;
  kj::TaskSet tasks_;
};

}  // namespace

Result<void> serve(const DaemonSettings& settings) {
  log::begin("serve");
  Storage& storage = Storage::system();
  const Clock& clock = Clock::system();
  EPOCHFS_DO(journal::prepare_state_dir(storage, settings.state));
  EPOCHFS_TRY(UniqueFd lock, lock_state(settings.state));
  raise_descriptor_limit();
  allow_large_files();

  // Before any thread starts: every thread must leave these signals to the loop.
  kj::UnixEventPort::captureSignal(SIGTERM);
  kj::UnixEventPort::captureSignal(SIGINT);
  ::signal(SIGPIPE, SIG_IGN);
  auto io = kj::setupAsyncIo();

  EPOCHFS_TRY(auto table, RelationshipTable::open(storage, settings.state));
  for (const DamagedRelationship& damaged : table->damaged()) {
    log::error("a relationship is damaged; the others run",
               {{"id", damaged.id}, {"reason", damage_text(damaged)}});
  }
  ProgressBoard board(*table);
  ListenAddress address = settings.listen;
  EPOCHFS_TRY(UniqueFd peer_socket, listen_tcp(address));
  EPOCHFS_DO(make_socket_directory(settings.control));
  EPOCHFS_TRY(UniqueFd control_socket, listen_unix(settings.control));
  const std::string listen = fmt::format("{}:{}", address.host, address.port);
  if (!is_loopback(address)) {
    log::warning(
        "connections are not encrypted and peers are not authenticated; use the address on a "
        "trusted network only",
        {{"address", listen}});
  }

  roll_forward_targets(*table, board, storage);
  auto peers = std::make_unique<Peers>(*table, board, storage, clock, std::move(peer_socket));
  std::map<std::string, std::unique_ptr<SourceSession>> sessions;
  ControlContext context{*table,
                         board,
                         storage,
                         clock,
                         io,
                         settings.state,
                         listen,
                         [&](const std::string& id) {
                           sessions[id] =
                               std::make_unique<SourceSession>(*table, board, storage, clock, id);
                         },
                         [&](const std::string& id) { sessions.erase(id); }};
  for (const Relationship& r : table->list()) {
    if (r.role == rpc::Role::SOURCE) context.start_session(r.id);
  }
  auto control = kj::heap<ControlListener>(
      io.lowLevelProvider->wrapListenSocketFd(control_socket.release(),
                                              kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP),
      make_control_server(context));

  log::info("listening", {{"address", listen}, {"control", settings.control}});
  io.unixEventPort.onSignal(SIGTERM)
      .exclusiveJoin(io.unixEventPort.onSignal(SIGINT))
      .ignoreResult()
      .wait(io.waitScope);
  // Cancels the calls that still wait, in the next turns of the loop: they watch table and board.
  control = nullptr;
  io.waitScope.poll();
  sessions.clear();
  peers.reset();
  remove_socket(settings.control);
  return {};
}

}  // namespace epochfs::replicator
