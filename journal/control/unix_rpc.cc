#include "journal/control/unix_rpc.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
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
  struct stat st;
  if (::fstatat(a.dir.get(), a.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
      !S_ISSOCK(st.st_mode)) {
    return fail(
        fmt::format("listen on socket {}: a file that is no socket has this name; it is left as it "
                    "is; move it away, or name another path",
                    path),
        0, ExitStatus::kUsage);
  }
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

void remove_socket(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode)) ::unlink(path.c_str());
}

Result<UniqueFd> connect_unix(const std::string& path, std::chrono::milliseconds patience) {
  auto a = address_of(path);
  if (!a) {
    a.error().status = status_of(a.error().code);
    return tl::unexpected(a.error());
  }
  const bool waits = patience.count() > 0;
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK), 0));
  if (!fd) return fail_errno("make socket");
  // Bounds connect(2), too.
  const timeval limit{patience.count() / 1000, suseconds_t(patience.count() % 1000 * 1000)};
  if (waits && ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
    return fail_errno("limit the wait for " + path);
  }
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&a->raw), sizeof a->raw) != 0) {
    int code = errno;
    if (code == EAGAIN) {
      return fail(
          fmt::format("connect to {}: its process does not answer, and too many others wait "
                      "already; see whether it is stopped or hangs",
                      path),
          code, ExitStatus::kUnreachable);
    }
    return fail("connect to " + path, code, status_of(code));
  }
  return fd;
}

Result<std::unique_ptr<UnixRpcClient>> UnixRpcClient::connect(kj::LowLevelAsyncIoProvider& provider,
                                                              const std::string& path,
                                                              std::chrono::milliseconds patience) {
  EPOCHFS_TRY(UniqueFd fd, connect_unix(path, patience));
  std::unique_ptr<UnixRpcClient> self(new UnixRpcClient);
  self->stream_ =
      provider.wrapUnixSocketFd(fd.release(), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP |
                                                  kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC);
  self->client_ = kj::heap<capnp::TwoPartyClient>(*self->stream_, kMaxFdsPerMessage);
  return self;
}

}  // namespace epochfs
