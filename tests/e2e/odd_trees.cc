#include "tests/e2e/odd_trees.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <cstring>
#include <initializer_list>

#include "tests/e2e/operation.h"
#include "tests/e2e/process.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/random.h"

namespace epochfs::testing {
namespace {

void must_be_done(int returned, const std::string& what) {
  if (returned != 0) throw_errno(what);
}

// The value of system.posix_acl_access and system.posix_acl_default, as the kernel has it.
struct AclEntry {
  uint16_t tag, permissions;
  uint32_t id;
};
constexpr uint16_t kAclUserObject = 1, kAclUser = 2, kAclGroupObject = 4, kAclGroup = 8,
                   kAclMask = 16, kAclOther = 32;
constexpr uint32_t kAclNobody = ~0u;

std::string acl(std::initializer_list<AclEntry> entries) {
  const uint32_t version = 2;
  std::string value(reinterpret_cast<const char*>(&version), sizeof version);
  for (const AclEntry& e : entries) value.append(reinterpret_cast<const char*>(&e), sizeof e);
  return value;
}

void set_mtime(const std::string& path, int64_t seconds, int64_t nanoseconds) {
  const timespec times[2] = {{0, UTIME_OMIT}, {seconds, nanoseconds}};
  must_be_done(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW),
               "set times of " + escape(path));
}

void make_odd_names(const std::string& in) {
  for (const std::string& name :
       {std::string("a name with a\nnewline"), std::string("not UTF-8 \xff\xfe\x80"),
        std::string(" -leading and trailing space "), std::string("*?[\"'\\"),
        std::string(255, 'n'), std::string(254, 'n') + "\xff", std::string("..."),
        std::string("\x01\x7f")}) {
    write_file(in + "/" + name, name);
  }
}

void make_odd_modes_and_times(const std::string& in) {
  for (mode_t mode : {04755, 02755, 06711, 0000, 0444}) {
    const std::string path = fmt::format("{}/mode-{:o}", in, mode);
    write_file(path, "mode");
    must_be_done(::chmod(path.c_str(), mode), "chmod " + path);
  }
  for (mode_t mode : {02775, 01777, 0500}) {
    const std::string path = fmt::format("{}/directory-{:o}", in, mode);
    make_directory(path);
    must_be_done(::chmod(path.c_str(), mode), "chmod " + path);
  }
  write_file(in + "/owned", "owned");
  must_be_done(::chown((in + "/owned").c_str(), 12345, 54321), "chown");
  write_file(in + "/old", "old");
  set_mtime(in + "/old", -14'182'940, 123'456'789);  // 1969
  write_file(in + "/late", "late");
  set_mtime(in + "/late", 4'294'967'297, 1);  // 2106
}

void make_links_and_nodes(const std::string& in) {
  write_file(in + "/linked", "linked");
  for (const char* name : {"/again", "/and-again"}) {
    must_be_done(::link((in + "/linked").c_str(), (in + name).c_str()), "link");
  }
  must_be_done(::symlink(std::string(1000, 't').c_str(), (in + "/long").c_str()), "symlink");
  must_be_done(::symlink("nowhere\n\xff", (in + "/dangling").c_str()), "symlink");
  must_be_done(::lchown((in + "/dangling").c_str(), 1, 2), "lchown");
  set_mtime(in + "/dangling", 1'000'000'000, 7);
  must_be_done(::mknod((in + "/fifo").c_str(), S_IFIFO | 0640, 0), "mknod");
  must_be_done(::link((in + "/fifo").c_str(), (in + "/fifo-again").c_str()), "link");
  must_be_done(::mknod((in + "/socket").c_str(), S_IFSOCK | 0600, 0), "mknod");
  must_be_done(::mknod((in + "/character").c_str(), S_IFCHR | 0600, makedev(1, 3)), "mknod");
  must_be_done(::mknod((in + "/block").c_str(), S_IFBLK | 0600, makedev(7, 200)), "mknod");
}

void make_xattrs(const std::string& in) {
  const std::string path = in + "/xattrs";
  write_file(path, "attributes");
  set_xattr(path, "user.text", "value");
  set_xattr(path, "user.binary", std::string("\x00\xff\x0a\x80", 4));
  set_xattr(path, "user.empty", "");
  set_xattr(path, "trusted.root", "only");
  for (const char* name : {"/dangling", "/fifo", "/socket", "/character", "/empty"}) {
    set_xattr(in + name, "trusted.root", name);
  }
  write_file(in + "/acl", "acl");
  set_xattr(in + "/acl", "system.posix_acl_access",
            acl({{kAclUserObject, 6, kAclNobody},
                 {kAclUser, 7, 12345},
                 {kAclGroupObject, 4, kAclNobody},
                 {kAclGroup, 4, 54321},
                 {kAclMask, 7, kAclNobody},
                 {kAclOther, 0, kAclNobody}}));
  make_directory(in + "/default-acl");
  set_xattr(in + "/default-acl", "system.posix_acl_default",
            acl({{kAclUserObject, 7, kAclNobody},
                 {kAclUser, 5, 12345},
                 {kAclGroupObject, 5, kAclNobody},
                 {kAclMask, 5, kAclNobody},
                 {kAclOther, 0, kAclNobody}}));
  write_file(in + "/default-acl/inherited", "inherited");
}

void make_sparse_files(const std::string& in) {
  UniqueFd fd(::open((in + "/sparse").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) throw_errno("open " + in + "/sparse");
  must_be_done(::ftruncate(fd.get(), 5'000'000'123), "truncate");
  if (::pwrite(fd.get(), "middle", 6, 4'500'000'000) != 6) throw_errno("write");
  write_large_file(in + "/punched", 4 << 20, 4);
  fd.reset(::open((in + "/punched").c_str(), O_WRONLY | O_CLOEXEC));
  must_be_done(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20),
               "punch");
}

}  // namespace

UniqueFd make_deep_directory(const std::string& root, const std::string& name, size_t levels) {
  UniqueFd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open " + root);
  for (size_t i = 0; i < levels; ++i) {
    must_be_done(::mkdirat(fd.get(), name.c_str(), 0755), "make directory " + escape(name));
    UniqueFd below(::openat(fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!below) throw_errno("open " + escape(name));
    fd = std::move(below);
  }
  return fd;
}

void make_odd_tree(const std::string& path) {
  make_directory(path);
  make_directory(path + "/empty");
  make_odd_names(path);
  make_odd_modes_and_times(path);
  make_links_and_nodes(path);
  make_xattrs(path);
  make_sparse_files(path);
}

void make_many_files(const std::string& path, size_t directories, size_t count) {
  make_directory(path);
  for (size_t i = 0; i < directories; ++i) make_directory(fmt::format("{}/{}", path, i));
  for (size_t i = 0; i < count; ++i) {
    write_file(fmt::format("{}/{}/file-{}", path, i % directories, i), bytes_of(i, i % 700));
  }
}

}  // namespace epochfs::testing
