#include "replicator/peer/transport.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>

#include "schema/replication.capnp.h"

namespace epochfs::replicator {
namespace {

struct SocketAddress {
  sockaddr_storage raw{};
  socklen_t size = 0;
};

Result<SocketAddress> socket_address(const ListenAddress& a) {
  SocketAddress out;
  auto v4 = reinterpret_cast<sockaddr_in*>(&out.raw);
  auto v6 = reinterpret_cast<sockaddr_in6*>(&out.raw);
  if (::inet_pton(AF_INET, a.host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(a.port);
    out.size = sizeof *v4;
  } else if (::inet_pton(AF_INET6, a.host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(a.port);
    out.size = sizeof *v6;
  } else {
    return fail("listen on \"" + a.host + "\": write an IPv4 or IPv6 address", 0,
                ExitStatus::kUsage);
  }
  return out;
}

}  // namespace

Result<ListenAddress> parse_listen_address(const std::string& text, uint16_t default_port) {
  ListenAddress a;
  a.port = default_port;
  std::string port;
  if (text.starts_with("[")) {
    size_t close = text.find(']');
    if (close == std::string::npos) {
      return fail("address \"" + text + "\": write it as [IPV6]:PORT", 0, ExitStatus::kUsage);
    }
    a.host = text.substr(1, close - 1);
    if (close + 1 < text.size()) port = text.substr(close + 1);
  } else {
    size_t colon = text.find(':');
    a.host = text.substr(0, colon);
    if (colon != std::string::npos) port = text.substr(colon);
  }
  if (!port.empty()) {
    unsigned long number = 65536;
    std::string digits = port.substr(1);
    if (port[0] == ':' && !digits.empty() && digits.size() <= 5 &&
        digits.find_first_not_of("0123456789") == std::string::npos) {
      number = std::stoul(digits);
    }
    if (number > 65535) {
      return fail("address \"" + text + "\": a port is a number from 1 to 65535", 0,
                  ExitStatus::kUsage);
    }
    a.port = uint16_t(number);
  }
  EPOCHFS_TRY([[maybe_unused]] auto checked, socket_address(a));
  return a;
}

bool is_loopback(const ListenAddress& a) { return a.host.starts_with("127.") || a.host == "::1"; }

Result<UniqueFd> listen_tcp(ListenAddress& a) {
  const std::string text = fmt::format("listen on {} port {}", a.host, a.port);
  EPOCHFS_TRY(SocketAddress address, socket_address(a));
  UniqueFd fd(::socket(address.raw.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(text);
  int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  auto raw = reinterpret_cast<sockaddr*>(&address.raw);
  if (::bind(fd.get(), raw, address.size) != 0 || ::listen(fd.get(), 128) != 0) {
    return fail_errno(text);
  }
  if (::getsockname(fd.get(), raw, &address.size) != 0) return fail_errno(text);
  a.port =
      ntohs(address.raw.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(raw)->sin_port
                                             : reinterpret_cast<sockaddr_in6*>(raw)->sin6_port);
  return fd;
}

void tune_tcp(int fd) {
  auto set = [fd](int level, int option, int v) { ::setsockopt(fd, level, option, &v, sizeof v); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);  // ms
}

capnp::ReaderOptions peer_reader_options() {
  capnp::ReaderOptions options;
  // Both the longest message and the most that reading it may traverse.
  options.traversalLimitInWords = 2 * rpc::MAX_MESSAGE_BYTES / sizeof(capnp::word);
  options.nestingLimit = 32;
  return options;
}

}  // namespace epochfs::replicator
