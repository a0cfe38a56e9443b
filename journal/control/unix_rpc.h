// UnixRpc: how do processes of one host reach each other? By Cap'n Proto RPC over unix sockets.
// Descriptors can be passed along. Paths may be longer than the kernel's sun_path.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <chrono>
#include <memory>
#include <string>

#include "journal/base/unix.h"

namespace epochfs {

// Most descriptors that one RPC message may carry.
constexpr unsigned kMaxFdsPerMessage = 4;

// Makes a listening socket, mode 0600. Replaces a stale one; one that somebody answers on is an
// error (EADDRINUSE), and so is a file that is no socket. The directory must exist.
Result<UniqueFd> listen_unix(const std::string& path);
// Removes the socket at the path, if one is there. Leaves any other file alone.
void remove_socket(const std::string& path);
// Errors: nobody listens there (status kUnreachable), or the caller may not (kNotAuthorized). Where
// too many others wait for a process that does not answer, it waits for `patience` and then fails
// with EAGAIN. Without patience it never waits.
Result<UniqueFd> connect_unix(const std::string& path, std::chrono::milliseconds patience = {});

// The patience of a command, which has nothing else to do. An event loop has none.
constexpr std::chrono::milliseconds kCommandPatience{10'000};

// One connection, as client. To be used in the thread of its event loop only.
class UnixRpcClient {
 public:
  static Result<std::unique_ptr<UnixRpcClient>> connect(kj::LowLevelAsyncIoProvider& provider,
                                                        const std::string& path,
                                                        std::chrono::milliseconds patience = {});

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
