#include "journal/control/unix_rpc.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

namespace epochfs {
namespace {

// sun_path holds 107 bytes. Through /proc/self/fd the path of any directory is short.
struct Address {
  UniqueFd dir;
  std::string name;
  sockaddr_un raw{};
};

Result<Address> address_of(const std::string& path) {
  Address a;
  size_t slash = path.rfind('/');
  a.name = slash == std::string::npos ? path : path.substr(slash + 1);
  std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  a.dir.reset(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!a.dir) return fail_errno("open directory " + parent);
  std::string short_path = proc_path(a.dir.get()) + "/" + a.name;
  if (a.name.empty() || short_path.size() >= sizeof a.raw.sun_path) {
    return fail("socket " + path, ENAMETOOLONG, ExitStatus::kUsage);
  }
  a.raw.sun_family = AF_UNIX;
  std::memcpy(a.raw.sun_path, short_path.c_str(), short_path.size() + 1);
  return a;
}

// The exit status of a command that could not connect.
ExitStatus status_of(int code) {
  return code == EACCES || code == EPERM ? ExitStatus::kNotAuthorized : ExitStatus::kUnreachable;
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path) {
  // If somebody answers on the socket, it is not stale.
  if (connect_unix(path)) return fail("listen on socket " + path, EADDRINUSE);
  EPOCHFS_TRY(Address a, address_of(path));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno("make socket " + path);
  if (::unlinkat(a.dir.get(), a.name.c_str(), 0) != 0 && errno != ENOENT) {
    return fail_errno("remove stale socket " + path);
  }
  // The mode is set by bind itself, so that nobody else can connect before a chmod.
  mode_t before = ::umask(0177);
  int bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&a.raw), sizeof a.raw);
  int code = errno;
  ::umask(before);
  if (bound != 0) return fail("bind socket " + path, code);
  if (::listen(fd.get(), 64) != 0) return fail_errno("listen on socket " + path);
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& path) {
  auto a = address_of(path);
  if (!a) {
    a.error().status = status_of(a.error().code);
    return tl::unexpected(a.error());
  }
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("make socket");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&a->raw), sizeof a->raw) != 0) {
    int code = errno;
    return fail("connect to " + path, code, status_of(code));
  }
  return fd;
}

Result<std::unique_ptr<UnixRpcClient>> UnixRpcClient::connect(kj::LowLevelAsyncIoProvider& provider,
                                                              const std::string& path) {
  EPOCHFS_TRY(UniqueFd fd, connect_unix(path));
  std::unique_ptr<UnixRpcClient> self(new UnixRpcClient);
  self->stream_ =
      provider.wrapUnixSocketFd(fd.release(), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP |
                                                  kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC);
  self->client_ = kj::heap<capnp::TwoPartyClient>(*self->stream_, kMaxFdsPerMessage);
  return self;
}

}  // namespace epochfs
