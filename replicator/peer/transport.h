// Transport: which stream carries the RPC between hosts, and within which limits? Plain TCP for
// now. TLS will wrap the stream here, and nowhere else.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <string>

#include "journal/base/unix.h"

namespace epochfs::replicator {

struct ListenAddress {
  std::string host;  // IPv4 or IPv6 address
  uint16_t port = 0;
};
// "127.0.0.1:3712", "[::1]:3712". Errors: kUsage, quoting the text.
Result<ListenAddress> parse_listen_address(const std::string& text, uint16_t default_port);
bool is_loopback(const ListenAddress& address);

// A listening socket, non-blocking. For port 0 the kernel chooses one, and `address` is updated.
Result<UniqueFd> listen_tcp(ListenAddress& address);

// Small messages go at once, and a peer that is gone is noticed within 30 seconds.
void tune_tcp(int fd);

// How large a message from a peer may be. A larger one ends the connection.
capnp::ReaderOptions peer_reader_options();

}  // namespace epochfs::replicator
