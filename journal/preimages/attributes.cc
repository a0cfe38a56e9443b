#include "journal/preimages/attributes.h"

#include <capnp/serialize.h>
#include <fcntl.h>
#include <kj/io.h>
#include <sys/xattr.h>

#include <climits>
#include <vector>

#include "journal/base/unix.h"

namespace epochfs::journal {
namespace {

void set_time(rpc::Time::Builder out, const statx_timestamp& t) {
  out.setSeconds(t.tv_sec);
  out.setNanos(t.tv_nsec);
}

// A file system that does not know xattrs has none. That is no error.
bool no_xattrs(int code) { return code == ENOTSUP || code == ENOSYS; }

struct NamedValue {
  std::string name, value;
};

Result<std::vector<NamedValue>> read_xattrs(const std::string& path) {
  std::vector<NamedValue> out;
  std::string names;
  for (;;) {
    ssize_t size = ::listxattr(path.c_str(), nullptr, 0);
    if (size < 0 && no_xattrs(errno)) return out;
    if (size < 0) return fail_errno("list xattrs");
    if (size == 0) return out;
    names.resize(size_t(size));
    size = ::listxattr(path.c_str(), names.data(), names.size());
    if (size < 0 && errno == ERANGE) continue;  // the list grew meanwhile
    if (size < 0) return fail_errno("list xattrs");
    names.resize(size_t(size));
    break;
  }
  for (size_t at = 0; at < names.size();) {
    NamedValue x{.name = names.c_str() + at, .value = std::string(XATTR_SIZE_MAX, '\0')};
    at += x.name.size() + 1;
    ssize_t size = ::getxattr(path.c_str(), x.name.c_str(), x.value.data(), x.value.size());
    if (size < 0 && errno == ENODATA) continue;  // was removed meanwhile
    if (size < 0) return fail_errno("read xattr " + x.name);
    x.value.resize(size_t(size));
    out.push_back(std::move(x));
  }
  return out;
}

capnp::Data::Reader data_of(const std::string& s) {
  return {reinterpret_cast<const capnp::byte*>(s.data()), s.size()};
}

}  // namespace

Result<void> capture_attributes(int fd, rpc::Attributes::Builder out) {
  struct statx a;
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &a) != 0) return fail_errno("stat file");
  out.setMode(a.stx_mode);
  out.setUid(a.stx_uid);
  out.setGid(a.stx_gid);
  out.setRdev(uint64_t(a.stx_rdev_major) << 32 | a.stx_rdev_minor);
  out.setLinks(a.stx_nlink);
  out.setSize(a.stx_size);
  set_time(out.initAtime(), a.stx_atime);
  set_time(out.initMtime(), a.stx_mtime);
  set_time(out.initCtime(), a.stx_ctime);

  if (S_ISLNK(a.stx_mode)) {
    char target[PATH_MAX];
    ssize_t size = ::readlinkat(fd, "", target, sizeof target);
    if (size < 0) return fail_errno("read symbolic link");
    out.setSymlinkTarget({reinterpret_cast<capnp::byte*>(target), size_t(size)});
  }
  // This path leads to the file itself, even if it is a symbolic link.
  EPOCHFS_TRY(auto xattrs, read_xattrs(proc_path(fd)));
  if (xattrs.empty()) return {};
  auto list = out.initXattrs(unsigned(xattrs.size()));
  for (unsigned i = 0; i < xattrs.size(); ++i) {
    list[i].setName(data_of(xattrs[i].name));
    list[i].setValue(data_of(xattrs[i].value));
  }
  return {};
}

Result<std::string> capture_attributes(int fd) {
  capnp::MallocMessageBuilder message;
  EPOCHFS_DO(capture_attributes(fd, message.initRoot<rpc::Attributes>()));
  kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  auto bytes = words.asChars();
  return std::string(bytes.begin(), bytes.size());
}

}  // namespace epochfs::journal
