#include "replicator/commands/client.h"

#include <cstdlib>

namespace epochfs::replicator {

void add_control_option(Options& options) {
  options.text("control", "SOCKET",
               "the daemon's control socket (EPOCHFS_CONTROL, or /run/epochfs/control.sock)");
}

std::string control_socket(const Parsed& given) {
  if (auto socket = given.maybe_text("control")) return *socket;
  const char* from_environment = std::getenv("EPOCHFS_CONTROL");
  return from_environment && *from_environment ? from_environment : kDefaultControlSocket;
}

const char* role_text(rpc::Role role) {
  switch (role) {
    case rpc::Role::SOURCE: return "source";
    case rpc::Role::TARGET: return "target";
    case rpc::Role::UNKNOWN: break;
  }
  return "unknown";
}

Result<std::unique_ptr<DaemonClient>> DaemonClient::connect(const std::string& socket) {
  std::unique_ptr<DaemonClient> self(new DaemonClient);
  auto connection = UnixRpcClient::connect(*self->io_.lowLevelProvider, socket, kCommandPatience);
  if (!connection) {
    Error e = connection.error();
    e.what = "reach the daemon: " + e.what;
    if (e.code == ENOENT || e.code == ECONNREFUSED) {
      return fail(e.message() + "; start it with: epochfs serve", 0, ExitStatus::kUnreachable);
    }
    return tl::unexpected(e);
  }
  self->connection_ = std::move(*connection);
  self->daemon_ = self->connection_->bootstrap<rpc::Daemon>();
  return self;
}

}  // namespace epochfs::replicator
