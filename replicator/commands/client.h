// DaemonClient: how does a command reach the daemon of this host?
#pragma once

#include <kj/async-io.h>

#include <memory>
#include <string>

#include "journal/control/command_line.h"
#include "journal/control/failure.h"
#include "journal/control/unix_rpc.h"
#include "schema/control.capnp.h"

namespace epochfs::replicator {

constexpr const char* kDefaultControlSocket = "/run/epochfs/control.sock";

// Adds --control SOCKET, which EPOCHFS_CONTROL can give too.
void add_control_option(Options& options);
std::string control_socket(const Parsed& given);

const char* role_text(rpc::Role role);

class DaemonClient {
 public:
  static Result<std::unique_ptr<DaemonClient>> connect(const std::string& socket);

  rpc::Daemon::Client daemon() { return daemon_; }

  // Waits for an answer. Errors: the daemon went away (kUnreachable), or its Failure.
  template <typename Results>
  Result<capnp::Response<Results>> call(capnp::RemotePromise<Results>&& promise) {
    Result<capnp::Response<Results>> out = fail("");
    auto broken = kj::runCatchingExceptions([&] { out = promise.wait(io_.waitScope); });
    KJ_IF_MAYBE (e, broken) {
      return fail(std::string("ask the daemon: ") + e->getDescription().cStr(), 0,
                  ExitStatus::kUnreachable);
    }
    return out;
  }

  kj::AsyncIoContext& io() { return io_; }

 private:
  DaemonClient() : io_(kj::setupAsyncIo()), daemon_(nullptr) {}
  kj::AsyncIoContext io_;
  std::unique_ptr<UnixRpcClient> connection_;
  rpc::Daemon::Client daemon_;
};

}  // namespace epochfs::replicator
