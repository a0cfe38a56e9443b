#include "journal/commands/names/backing_names.h"

#include <fcntl.h>
#include <kj/async-io.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include <climits>

#include "journal/control/unix_rpc.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {
namespace {

constexpr size_t kMaxKnown = 1 << 18;

std::string path_of(int fd) {
  char path[PATH_MAX];
  const ssize_t size = ::readlink(proc_path(fd).c_str(), path, sizeof path);
  return size > 0 && size < ssize_t(sizeof path) ? std::string(path, size_t(size)) : "";
}

// Below the directory, and through no symbolic link.
UniqueFd open_below(int dir, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  return UniqueFd(
      int(::syscall(SYS_openat2, dir, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

std::optional<FileId> id_of(int fd) {
  struct statx a;
  if (::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &a) != 0) {
    return std::nullopt;
  }
  return file_id(a);
}

// The directory beneath a mount. None if no mount answers.
UniqueFd ask_mount(const std::string& socket) {
  UniqueFd out;
  if (::access(socket.c_str(), R_OK | W_OK) != 0) return out;
  try {
    auto io = kj::setupAsyncIo();
    auto client = UnixRpcClient::connect(*io.lowLevelProvider, socket);
    if (!client) return out;
    auto directory = (*client)->bootstrap<rpc::Mount>().backingRequest().send().getDirectory();
    auto got = directory.getFd().then([&](kj::Maybe<int> fd) {
      KJ_IF_MAYBE (number, fd) out.reset(::fcntl(*number, F_DUPFD_CLOEXEC, 0));
    });
    auto too_late = io.provider->getTimer().afterDelay(1 * kj::SECONDS);
    got.exclusiveJoin(kj::mv(too_late)).wait(io.waitScope);
  } catch (const kj::Exception&) {
    out.reset();  // it ended meanwhile
  }
  return out;
}

}  // namespace

BackingNames BackingNames::of(const Volume& volume) {
  BackingNames names;
  UniqueFd root = ask_mount(volume.path() + "/" + kControlSocket);
  if (!root) {
    root.reset(::open(volume.info().backing_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  if (!root) return names;
  auto identity = identify_volume(root.get());
  if (!identity || *identity != volume.info().identity) return names;  // another directory
  names.root_path_ = path_of(root.get());
  names.root_ = std::move(root);
  return names;
}

std::optional<BackingName> BackingNames::known(const FileId& file) const {
  auto found = known_.find(file);
  if (found == known_.end()) return std::nullopt;
  return found->second;
}

// Notes the name of the file at this path below the root, if it is the expected file.
bool BackingNames::note(const std::string& path, const FileId* expected) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash);
  UniqueFd file = open_below(root_.get(), path), parent = open_below(root_.get(), directory);
  if (!file || !parent) return false;
  auto id = id_of(file.get()), parent_id = id_of(parent.get());
  if (!id || !parent_id || (expected && *id != *expected)) return false;
  known_[*id] = {*parent_id, path.substr(slash == std::string::npos ? 0 : slash + 1)};
  return true;
}

std::optional<BackingName> BackingNames::locate(const FileId& file, const FileHandle& handle) {
  if (!root_) return std::nullopt;
  if (auto found = known(file)) return found;
  if (!handle) return std::nullopt;
  if (known_.size() >= kMaxKnown) known_.clear();
  UniqueFd fd(open_handle(root_.get(), handle, O_PATH | O_NOFOLLOW));
  if (!fd) return std::nullopt;
  std::string path = path_of(fd.get());
  const std::string above = root_path_ == "/" ? root_path_ : root_path_ + "/";
  if (!path.starts_with(above)) return std::nullopt;  // not connected to any name
  path.erase(0, above.size());
  if (path.empty() || !note(path, &file)) return std::nullopt;
  // Records hold no handles of the directories above, so the names on the way are noted too.
  for (size_t slash; (slash = path.rfind('/')) != std::string::npos;) {
    path.resize(slash);
    if (!note(path, nullptr)) break;
  }
  return known(file);
}

}  // namespace epochfs::journal
