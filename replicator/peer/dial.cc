#include "replicator/peer/dial.h"

#include <capnp/message.h>

#include "replicator/peer/transport.h"

namespace epochfs::replicator {
namespace {

capnp::Capability::Client bootstrap(capnp::RpcSystem<capnp::rpc::twoparty::VatId>& rpc) {
  capnp::word scratch[8] = {};
  capnp::MallocMessageBuilder message(kj::ArrayPtr<capnp::word>(scratch, 8));
  auto server = message.initRoot<capnp::rpc::twoparty::VatId>();
  server.setSide(capnp::rpc::twoparty::Side::SERVER);
  return rpc.bootstrap(server);
}

}  // namespace

PeerConnection::PeerConnection(kj::Own<kj::AsyncIoStream> stream)
    : stream_(kj::mv(stream)),
      network_(*stream_, capnp::rpc::twoparty::Side::CLIENT, peer_reader_options()),
      rpc_(capnp::makeRpcClient(network_)),
      host_(bootstrap(rpc_).castAs<rpc::ReplicationHost>()) {}

kj::Promise<kj::Own<PeerConnection>> dial(kj::AsyncIoProvider& provider, const std::string& address,
                                          uint16_t port) {
  auto& timer = provider.getTimer();
  return timer.timeoutAfter(kDialTimeout, provider.getNetwork().parseAddress(address, port))
      .then([&timer](kj::Own<kj::NetworkAddress> found) {
        auto connected = found->connect();
        return timer.timeoutAfter(kDialTimeout, connected.attach(kj::mv(found)));
      })
      .then([](kj::Own<kj::AsyncIoStream> stream) {
        KJ_IF_MAYBE (fd, stream->getFd()) tune_tcp(*fd);
        return kj::heap<PeerConnection>(kj::mv(stream));
      });
}

}  // namespace epochfs::replicator
