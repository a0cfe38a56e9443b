#include "replicator/target/directory/metadata.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>

#include "journal/base/unix.h"

namespace epochfs::replicator {
namespace {

timespec to_timespec(const Timestamp& t) { return {t.seconds, long(t.nanos)}; }

// The target's own kernel sets these labels. The source must not remove them.
bool is_local(std::string_view name) {
  return name == "security.selinux" || name == "security.ima" || name == "security.evm";
}

// One file, by the path of its descriptor: the calls for xattrs and modes do not take a
// descriptor that was opened with O_PATH.
class File {
 public:
  File(int fd, const StagedNode& node, std::string_view what)
      : fd_(fd), node_(node), want_(node.attributes), what_(what), path_(proc_path(fd)) {}

  Result<AppliedMetadata> apply() {
    struct stat now;
    if (::fstat(fd_, &now) != 0) return failed("stat");
    if ((now.st_mode & S_IFMT) != (want_.mode & S_IFMT)) {
      return fail(fmt::format("set attributes of {}: it is of another type", what_), ENOENT);
    }
    // chown clears set-user-id bits and capabilities, so it comes first. An ACL and the group
    // bits of the mode agree, so their order does not matter.
    const bool chowned = now.st_uid != want_.uid || now.st_gid != want_.gid;
    if (chowned && ::fchownat(fd_, "", want_.uid, want_.gid, AT_EMPTY_PATH) != 0) {
      return failed("set owner of");
    }
    EPOCHFS_TRY(bool changed, apply_xattrs());
    if (!S_ISLNK(want_.mode)) {
      const bool right = (now.st_mode & 07777) == (want_.mode & 07777);
      const bool lost = chowned && (want_.mode & 06000);  // set-id bits go with the owner
      if ((!right || lost || changed) && ::chmod(path_.c_str(), want_.mode & 07777) != 0) {
        return failed("set mode of");
      }
    }
    const timespec times[2] = {to_timespec(want_.atime), to_timespec(want_.mtime)};
    if (::utimensat(fd_, "", times, AT_EMPTY_PATH) != 0) return failed("set times of");
    if (::fstat(fd_, &now) != 0) return failed("stat");
    return AppliedMetadata{now.st_ino, {now.st_mtim.tv_sec, now.st_mtim.tv_nsec}};
  }

 private:
  // Returns whether anything was changed.
  Result<bool> apply_xattrs() {
    EPOCHFS_TRY(auto names, list());
    bool changed = false;
    for (const std::string& name : names) {
      if (is_local(name) || wanted(name)) continue;
      if (::removexattr(path_.c_str(), name.c_str()) != 0 && errno != ENODATA) {
        return failed("remove xattr " + escape(name) + " of");
      }
      changed = true;
    }
    for (const Xattr& x : node_.xattrs) {
      if (holds(names, x)) continue;
      if (::setxattr(path_.c_str(), x.name.c_str(), x.value.data(), x.value.size(), 0) != 0) {
        return failed("set xattr " + escape(x.name) + " of");
      }
      changed = true;
    }
    return changed;
  }

  Result<std::vector<std::string>> list() {
    std::vector<std::string> out;
    char small[1024];
    std::string large;
    char* names = small;
    ssize_t size = ::listxattr(path_.c_str(), small, sizeof small);
    if (size < 0 && errno == ERANGE) {
      large.resize(XATTR_LIST_MAX);
      names = large.data();
      size = ::listxattr(path_.c_str(), names, large.size());
    }
    if (size < 0 && (errno == ENOTSUP || errno == ENOSYS)) return out;
    if (size < 0) return failed("list xattrs of");
    for (const char* at = names; at < names + size; at += out.back().size() + 1) {
      out.emplace_back(at);
    }
    return out;
  }

  bool wanted(const std::string& name) const {
    return std::any_of(node_.xattrs.begin(), node_.xattrs.end(),
                       [&](const Xattr& x) { return x.name == name; });
  }

  bool holds(const std::vector<std::string>& names, const Xattr& x) const {
    if (std::find(names.begin(), names.end(), x.name) == names.end()) return false;
    std::string value(x.value.size() + 1, '\0');
    ssize_t size = ::getxattr(path_.c_str(), x.name.c_str(), value.data(), value.size());
    return size >= 0 && std::string_view(value.data(), size_t(size)) == x.value;
  }

  tl::unexpected<Error> failed(const std::string& verb) {
    return fail_errno(fmt::format("{} {}", verb, what_));
  }

  int fd_;
  const StagedNode& node_;
  const FixedAttributes& want_;
  std::string_view what_;
  std::string path_;
};

}  // namespace

Result<AppliedMetadata> apply_metadata(int fd, const StagedNode& node, std::string_view what) {
  return File(fd, node, what).apply();
}

Result<void> apply_mtime(int fd, const Timestamp& mtime, std::string_view what) {
  const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(mtime)};
  if (::utimensat(fd, "", times, AT_EMPTY_PATH) != 0) {
    return fail_errno(fmt::format("set times of {}", what));
  }
  return {};
}

}  // namespace epochfs::replicator
