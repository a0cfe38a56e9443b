// UnixRpc: how do processes of one host reach each other? By Cap'n Proto RPC over unix sockets.
// Descriptors can be passed along. Paths may be longer than the kernel's sun_path.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <memory>
#include <string>

#include "journal/base/unix.h"

namespace epochfs {

// Most descriptors that one RPC message may carry.
constexpr unsigned kMaxFdsPerMessage = 4;

// Makes a listening socket, mode 0600. Replaces a stale one; one that somebody answers on is an
// error (EADDRINUSE). The directory must exist.
Result<UniqueFd> listen_unix(const std::string& path);
// Errors: nobody listens there (status kUnreachable), or the caller may not (kNotAuthorized).
Result<UniqueFd> connect_unix(const std::string& path);

// One connection, as client. To be used in the thread of its event loop only.
class UnixRpcClient {
 public:
  static Result<std::unique_ptr<UnixRpcClient>> connect(kj::LowLevelAsyncIoProvider& provider,
                                                        const std::string& path);

  template <typename Interface>
  typename Interface::Client bootstrap() {
    return client_->bootstrap().template castAs<Interface>();
  }
  // Resolves when the peer has gone.
  kj::Promise<void> on_disconnect() { return client_->onDisconnect(); }

 private:
  UnixRpcClient() = default;
  kj::Own<kj::AsyncCapabilityStream> stream_;
  kj::Own<capnp::TwoPartyClient> client_;
};

}  // namespace epochfs
