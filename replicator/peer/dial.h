// Dial: how does this host reach a peer? The one door for outgoing connections: each has the same
// limits on what the peer may send, the same timeouts, and the same way of noticing that the peer
// has gone. Knows nothing of relationships.
//
// The thread of the event loop only.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <string>

#include "schema/replication.capnp.h"

namespace epochfs::replicator {

// For looking a name up, for connecting, and for the answer to a first call, each.
constexpr auto kDialTimeout = 10 * kj::SECONDS;

// One connection to a peer. It ends when this is destroyed.
class PeerConnection {
 public:
  explicit PeerConnection(kj::Own<kj::AsyncIoStream> stream);

  rpc::ReplicationHost::Client host() { return host_; }
  kj::Promise<void> on_disconnect() { return network_.onDisconnect(); }

 private:
  kj::Own<kj::AsyncIoStream> stream_;
  // A TwoPartyClient takes no limits.
  capnp::TwoPartyVatNetwork network_;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc_;
  rpc::ReplicationHost::Client host_;
};

// address: IPv4, IPv6 or a host name. Breaks (kj::Exception) when it is not known or nobody
// answers. Dropping the promise gives up. The provider must outlive promise and connection.
kj::Promise<kj::Own<PeerConnection>> dial(kj::AsyncIoProvider& provider, const std::string& address,
                                          uint16_t port);

}  // namespace epochfs::replicator
