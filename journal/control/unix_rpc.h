// UnixRpc: how do processes of one host reach each other? Cap'n Proto RPC over
// unix sockets whose paths may be longer than the kernel's sun_path, with
// descriptors passed along.
#pragma once

#include <capnp/message.h>
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <memory>
#include <string>

#include "journal/base/unix.h"

namespace epochfs {

// Descriptors that one RPC message may carry.
constexpr unsigned kMaxFdsPerMessage = 4;

// Makes a listening socket, mode 0600, in place of a stale one. The directory
// must exist.
Result<UniqueFd> listen_unix(const std::string& path);
// Errors: nobody listens there (status kUnreachable).
Result<UniqueFd> connect_unix(const std::string& path);

// One connection as client. Lives in the thread of its event loop.
class UnixRpcClient {
 public:
  static Result<std::unique_ptr<UnixRpcClient>> connect(kj::LowLevelAsyncIoProvider& provider,
                                                        const std::string& path);

  template <typename Interface>
  typename Interface::Client bootstrap() {
    capnp::word scratch[8] = {};
    capnp::MallocMessageBuilder message(kj::ArrayPtr<capnp::word>(scratch, 8));
    auto server = message.initRoot<capnp::rpc::twoparty::VatId>();
    server.setSide(capnp::rpc::twoparty::Side::SERVER);
    return rpc_->bootstrap(server).template castAs<Interface>();
  }
  // Resolves when the peer has gone.
  kj::Promise<void> on_disconnect() { return network_->onDisconnect(); }

 private:
  UnixRpcClient() = default;
  kj::Own<kj::AsyncCapabilityStream> stream_;
  kj::Own<capnp::TwoPartyVatNetwork> network_;
  kj::Own<capnp::RpcSystem<capnp::rpc::twoparty::VatId>> rpc_;
};

}  // namespace epochfs
