#include "tests/e2e/operation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "journal/base/unix.h"
#include "tests/e2e/process.h"
#include "tests/support/failure.h"
#include "tests/support/random.h"

namespace epochfs::testing {
namespace {

using Kind = Operation::Kind;

constexpr struct {
  Kind kind;
  const char* name;
} kNames[] = {
    {Kind::kCreate, "create"},
    {Kind::kTemporary, "create by O_TMPFILE"},
    {Kind::kMakeDirectory, "mkdir"},
    {Kind::kMakeNode, "mknod"},
    {Kind::kSymlink, "symlink"},
    {Kind::kLink, "link"},
    {Kind::kUnlink, "unlink"},
    {Kind::kRemoveDirectory, "rmdir"},
    {Kind::kRename, "rename"},
    {Kind::kWrite, "write"},
    {Kind::kAppend, "append"},
    {Kind::kMapWrite, "write by mmap"},
    {Kind::kTruncate, "truncate"},
    {Kind::kAllocate, "fallocate"},
    {Kind::kCopyRange, "copy_file_range"},
    {Kind::kChangeMode, "chmod"},
    {Kind::kChangeOwner, "chown"},
    {Kind::kChangeTimes, "utimens"},
    {Kind::kSetXattr, "setxattr"},
    {Kind::kRemoveXattr, "removexattr"},
};

int outcome_of(int returned) { return returned == 0 ? 0 : errno; }

// For calls that take no directory.
std::string full_path(int root, const std::string& path) {
  return path.empty() ? proc_path(root) + "/." : proc_path(root) + "/" + path;
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void write_all(int fd, const std::string& bytes, const Operation& o) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        o.kind == Kind::kWrite
            ? ::pwrite(fd, bytes.data() + done, bytes.size() - done, off_t(o.offset + done))
            : ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n <= 0) throw_errno(describe(o));
    done += size_t(n);
  }
}

int create(int root, const Operation& o) {
  UniqueFd fd(::openat(root, o.path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, o.mode));
  if (!fd) return errno;
  write_all(fd.get(), bytes_of(o.seed, o.length), o);
  return 0;
}

int create_temporary(int root, const Operation& o) {
  UniqueFd fd(::openat(root, parent_of(o.path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, o.mode));
  if (!fd) return errno;
  write_all(fd.get(), bytes_of(o.seed, o.length), o);
  return outcome_of(
      ::linkat(AT_FDCWD, proc_path(fd.get()).c_str(), root, o.path.c_str(), AT_SYMLINK_FOLLOW));
}

int write_to(int root, const Operation& o, int flags) {
  UniqueFd fd(::openat(root, o.path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags));
  if (!fd) return errno;
  write_all(fd.get(), bytes_of(o.seed, o.length), o);
  return 0;
}

int write_mapped(int root, const Operation& o) {
  UniqueFd fd(::openat(root, o.path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return errno;
  const size_t size = o.offset + o.length;
  void* map = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) return errno;
  const std::string bytes = bytes_of(o.seed, o.length);
  std::memcpy(static_cast<char*>(map) + o.offset, bytes.data(), bytes.size());
  return outcome_of(::munmap(map, size));
}

// By name and by descriptor in turn: these are different requests to a file system.
int truncate(int root, const Operation& o) {
  if (o.seed % 2) return outcome_of(::truncate(full_path(root, o.path).c_str(), off_t(o.length)));
  UniqueFd fd(::openat(root, o.path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  return fd ? outcome_of(::ftruncate(fd.get(), off_t(o.length))) : errno;
}

int allocate(int root, const Operation& o) {
  UniqueFd fd(::openat(root, o.path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return errno;
  return outcome_of(::fallocate(fd.get(), int(o.mode), off_t(o.offset), off_t(o.length)));
}

int copy_range(int root, const Operation& o) {
  UniqueFd from(::openat(root, o.path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  UniqueFd to(::openat(root, o.path2.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!from || !to) return errno;
  loff_t in = loff_t(o.offset), out = loff_t(o.offset2);
  for (uint64_t left = o.length; left > 0;) {
    const ssize_t n = ::copy_file_range(from.get(), &in, to.get(), &out, left, 0);
    if (n < 0) return errno;
    if (n == 0) break;
    left -= uint64_t(n);
  }
  return 0;
}

int change_times(int root, const Operation& o) {
  const timespec times[2] = {{0, UTIME_NOW}, {o.seconds, o.nanoseconds}};
  return outcome_of(
      ::utimensat(root, o.path.empty() ? "." : o.path.c_str(), times, AT_SYMLINK_NOFOLLOW));
}

}  // namespace

std::string describe(const Operation& o) {
  std::string text = "?";
  for (const auto& row : kNames) {
    if (row.kind == o.kind) text = row.name;
  }
  text += fmt::format(" \"{}\"", escape(o.path));
  if (!o.path2.empty()) text += fmt::format(" to \"{}\"", escape(o.path2));
  if (o.mode) text += fmt::format(", mode or flags {:#o}", o.mode);
  if (o.offset || o.offset2 || o.length) {
    text += fmt::format(", {}+{}", o.offset, o.length);
    if (o.offset2) text += fmt::format(" to {}", o.offset2);
  }
  if (!o.name.empty()) text += ", " + o.name;
  return text;
}

int perform(int root, const Operation& o) {
  const char* path = o.path.empty() ? "." : o.path.c_str();
  const std::string full = full_path(root, o.path);
  switch (o.kind) {
    case Kind::kCreate: return create(root, o);
    case Kind::kTemporary: return create_temporary(root, o);
    case Kind::kMakeDirectory: return outcome_of(::mkdirat(root, path, o.mode));
    case Kind::kMakeNode: return outcome_of(::mknodat(root, path, o.mode, o.rdev));
    case Kind::kSymlink: return outcome_of(::symlinkat(o.value.c_str(), root, path));
    case Kind::kLink: return outcome_of(::linkat(root, path, root, o.path2.c_str(), 0));
    case Kind::kUnlink: return outcome_of(::unlinkat(root, path, 0));
    case Kind::kRemoveDirectory: return outcome_of(::unlinkat(root, path, AT_REMOVEDIR));
    case Kind::kRename: return outcome_of(::renameat2(root, path, root, o.path2.c_str(), o.mode));
    case Kind::kWrite: return write_to(root, o, 0);
    case Kind::kAppend: return write_to(root, o, O_APPEND);
    case Kind::kMapWrite: return write_mapped(root, o);
    case Kind::kTruncate: return truncate(root, o);
    case Kind::kAllocate: return allocate(root, o);
    case Kind::kCopyRange: return copy_range(root, o);
    case Kind::kChangeMode: return outcome_of(::fchmodat(root, path, o.mode, 0));
    case Kind::kChangeOwner:
      return outcome_of(::fchownat(root, path, o.uid, o.gid, AT_SYMLINK_NOFOLLOW));
    case Kind::kChangeTimes: return change_times(root, o);
    case Kind::kSetXattr:
      return outcome_of(
          ::lsetxattr(full.c_str(), o.name.c_str(), o.value.data(), o.value.size(), 0));
    case Kind::kRemoveXattr: return outcome_of(::lremovexattr(full.c_str(), o.name.c_str()));
  }
  return ENOSYS;
}

}  // namespace epochfs::testing
