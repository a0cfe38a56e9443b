// What does a file have besides bytes and names? Times, birth, extended attributes; and the
// sizes of the file system.
#include <fmt/format.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "tests/e2e/posix/posix.h"

namespace epochfs::testing {
namespace {

using Times = PosixTest;
using Statx = PosixTest;
using Xattrs = PosixTest;
using Statfs = PosixTest;

// ---- times ----

void note_times(Place& p, const std::string& name) {
  struct statx a {};
  p.call("statx", ::statx(p.root(), name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &a));
  p.note("times of " + name,
         fmt::format("a {}.{:09} m {}.{:09}", a.stx_atime.tv_sec, a.stx_atime.tv_nsec,
                     a.stx_mtime.tv_sec, a.stx_mtime.tv_nsec));
}

POSIX_CASE(Times, SetToTheNanosecond) {
  place.make("file");
  place.make_directory("dir");
  place.call("symlink", ::symlinkat("file", place.root(), "link"));
  place.call("fifo", ::mkfifoat(place.root(), "fifo", 0644));
  const timespec pairs[][2] = {
      {{1, 1}, {2, 999'999'999}},
      {{0, 0}, {0, 0}},
      {{-1, 5}, {-1'000'000, 7}},
      {{-2'147'483'648, 0}, {-2'147'483'649, 0}},
      {{2'147'483'647, 1}, {2'147'483'648, 2}},
      {{4'294'967'296, 3}, {9'999'999'999, 4}},
      {{15'032'385'535, 5}, {15'032'385'536, 6}},
      {{1, -1}, {2, 2}},
      {{1, 1'000'000'000}, {2, 2}},
  };
  for (const char* name : {"file", "dir", "link", "fifo"}) {
    for (const auto& times : pairs) {
      place.call("utimensat", ::utimensat(place.root(), name, times, AT_SYMLINK_NOFOLLOW));
      note_times(place, name);
    }
  }
}

POSIX_CASE(Times, NowAndOmit) {
  place.make("file");
  const timespec past[2] = {{1000, 1}, {2000, 2}};
  const long values[] = {UTIME_NOW, UTIME_OMIT, 5};
  for (long a : values) {
    for (long m : values) {
      place.call("past", ::utimensat(place.root(), "file", past, 0));
      const timespec times[2] = {{77, a}, {88, m}};
      place.call("utimensat", ::utimensat(place.root(), "file", times, 0));
      struct stat st {};
      ::fstatat(place.root(), "file", &st, 0);
      auto shown = [](const timespec& t) {
        return t.tv_sec > 1'000'000'000 ? "now" : fmt::format("{}.{}", t.tv_sec, t.tv_nsec);
      };
      place.note("times", shown(st.st_atim) + " " + shown(st.st_mtim));
    }
  }
  place.call("null", ::utimensat(place.root(), "file", nullptr, 0));
  place.call("unknown flag", ::utimensat(place.root(), "file", past, 0x8000));
}

POSIX_CASE(Times, NowIsTheSameForBoth) {
  place.make("file");
  place.call("now", ::utimensat(place.root(), "file", nullptr, 0));
  struct stat st {};
  ::fstatat(place.root(), "file", &st, 0);
  place.note("equal", std::memcmp(&st.st_atim, &st.st_mtim, sizeof st.st_atim) == 0);
}

POSIX_CASE(Times, WhichOperationMovesWhich) {
  Place& p = place;
  auto path = [&](const char* name) { return p / name; };
  p.make("file", "content");
  p.make_directory("dir");
  p.make("dir/child");
  const int root = p.root();
  p.times("nothing", "file", [] {});
  p.times("chmod", "file", [&] { ::fchmodat(root, "file", 0600, 0); });
  p.times("chmod to the same", "file", [&] { ::fchmodat(root, "file", 0600, 0); });
  p.times("chown", "file", [&] { ::fchownat(root, "file", kAlice, kAlice, 0); });
  p.times("chown of nothing", "file", [&] { ::fchownat(root, "file", -1u, -1u, 0); });
  p.times("setxattr", "file", [&] { ::setxattr(path("file").c_str(), "user.a", "1", 1, 0); });
  p.times("getxattr", "file", [&] { ::getxattr(path("file").c_str(), "user.a", nullptr, 0); });
  p.times("removexattr", "file", [&] { ::removexattr(path("file").c_str(), "user.a"); });
  p.times("link", "file", [&] { ::linkat(root, "file", root, "link", 0); });
  p.times("unlink of another name", "file", [&] { ::unlinkat(root, "link", 0); });
  p.times("rename", "file", [&] {
    ::renameat(root, "file", root, "renamed");
    ::renameat(root, "renamed", root, "file");
  });
  p.times("open", "file", [&] { ::close(::openat(root, "file", O_RDWR)); });
  p.times("write", "file", [&] {
    UniqueFd fd(::openat(root, "file", O_WRONLY));
    EXPECT_EQ(::write(fd.get(), "x", 1), 1);
  });
  p.times("write of nothing", "file", [&] {
    UniqueFd fd(::openat(root, "file", O_WRONLY));
    EXPECT_EQ(::write(fd.get(), "", 0), 0);
  });
  p.times("truncate", "file", [&] { EXPECT_EQ(::truncate(path("file").c_str(), 3), 0); });
  p.times("truncate to the same size", "file",
          [&] { EXPECT_EQ(::truncate(path("file").c_str(), 3), 0); });
  p.times("ftruncate to the same size", "file", [&] {
    UniqueFd fd(::openat(root, "file", O_WRONLY));
    EXPECT_EQ(::ftruncate(fd.get(), 3), 0);
  });
  p.times("open with truncation", "file",
          [&] { ::close(::openat(root, "file", O_WRONLY | O_TRUNC)); });
  p.times("open of an empty one with truncation", "file",
          [&] { ::close(::openat(root, "file", O_WRONLY | O_TRUNC)); });
  p.times("fallocate", "file", [&] {
    UniqueFd fd(::openat(root, "file", O_WRONLY));
    EXPECT_EQ(::fallocate(fd.get(), 0, 0, 10'000), 0);
  });
  p.times("fsync", "file", [&] {
    UniqueFd fd(::openat(root, "file", O_WRONLY));
    EXPECT_EQ(::fsync(fd.get()), 0);
  });
  p.make("other", "other");
  p.times("copy_file_range", "file", [&] {
    UniqueFd from(::openat(root, "other", O_RDONLY)), to(::openat(root, "file", O_WRONLY));
    EXPECT_EQ(::copy_file_range(from.get(), nullptr, to.get(), nullptr, 5, 0), 5);
  });
  p.times("being replaced", "other", [&] { ::renameat(root, "file", root, "other"); });
  p.times("create in it", "dir",
          [&] { ::close(::openat(root, "dir/new", O_CREAT | O_WRONLY, 0)); });
  p.times("create of what is there", "dir",
          [&] { ::close(::openat(root, "dir/new", O_CREAT | O_WRONLY, 0)); });
  p.times("mkdir in it", "dir", [&] { ::mkdirat(root, "dir/sub", 0755); });
  p.times("rmdir in it", "dir", [&] { ::unlinkat(root, "dir/sub", AT_REMOVEDIR); });
  p.times("symlink in it", "dir", [&] { ::symlinkat("x", root, "dir/symlink"); });
  p.times("rename in it", "dir", [&] { ::renameat(root, "dir/new", root, "dir/newer"); });
  p.times("rename out of it", "dir", [&] { ::renameat(root, "dir/newer", root, "newer"); });
  p.times("link into it", "dir", [&] { ::linkat(root, "newer", root, "dir/newer", 0); });
  p.times("unlink in it", "dir", [&] { ::unlinkat(root, "dir/newer", 0); });
  p.times("write below it", "dir", [&] {
    UniqueFd fd(::openat(root, "dir/child", O_WRONLY));
    EXPECT_EQ(::write(fd.get(), "x", 1), 1);
  });
  p.times("look-up in it", "dir", [&] { ::faccessat(root, "dir/absent", F_OK, 0); });
  p.times("failing rmdir", "dir", [&] { ::unlinkat(root, "dir", AT_REMOVEDIR); });
  p.times("rename of it", "dir", [&] {
    ::renameat(root, "dir", root, "dir2");
    ::renameat(root, "dir2", root, "dir");
  });
}

POSIX_CASE(Times, FirstReadMovesAtime) {
  place.make("file", "content");
  place.call("symlink", ::symlinkat("file", place.root(), "link"));
  place.make_directory("dir");
  place.make("dir/x");
  place.times("read", "file", [&] {
    UniqueFd fd(::openat(place.root(), "file", O_RDONLY));
    char byte;
    EXPECT_EQ(::read(fd.get(), &byte, 1), 1);
  });
}

POSIX_CASE(Times, OpenDescriptorAndPathAgree) {
  place.make("file", "content");
  UniqueFd fd = place.open("file", O_RDWR);
  for (int i = 0; i < 3; ++i) {
    let_clock_tick();
    place.call("write", ::write(fd.get(), "x", 1));
    struct stat a {
    }, b{};
    ::fstat(fd.get(), &a);
    ::fstatat(place.root(), "file", &b, 0);
    place.note("mtime equal", std::memcmp(&a.st_mtim, &b.st_mtim, sizeof a.st_mtim) == 0);
    place.note("ctime equal", std::memcmp(&a.st_ctim, &b.st_ctim, sizeof a.st_ctim) == 0);
    place.note("mtime is ctime", std::memcmp(&a.st_mtim, &a.st_ctim, sizeof a.st_mtim) == 0);
  }
}

// ---- statx ----

POSIX_CASE(Statx, BirthIsStable) {
  place.make("file", "x");
  auto birth = [&](const char* name) {
    struct statx a {};
    ::statx(place.root(), name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &a);
    place.note("mask", a.stx_mask & (STATX_BASIC_STATS | STATX_BTIME));
    return a.stx_mask & STATX_BTIME
               ? std::pair(a.stx_btime.tv_sec, a.stx_btime.tv_nsec)
               : std::pair<decltype(a.stx_btime.tv_sec), decltype(a.stx_btime.tv_nsec)>{};
  };
  const auto at_first = birth("file");
  place.note("known", at_first.first > 0);
  let_clock_tick();
  place.call("chmod", ::fchmodat(place.root(), "file", 0600, 0));
  const timespec past[2] = {{1, 1}, {1, 1}};
  place.call("times", ::utimensat(place.root(), "file", past, 0));
  UniqueFd fd = place.open("file", O_WRONLY | O_TRUNC);
  place.call("write", ::write(fd.get(), "content", 7));
  place.note("same", birth("file") == at_first);
  place.call("rename", ::renameat(place.root(), "file", place.root(), "renamed"));
  place.note("same", birth("renamed") == at_first);
  place.make("file", "another");
  place.note("another", birth("file") != at_first);
  for (const char* name : {".", "file"}) birth(name);
}

POSIX_CASE(Statx, MasksAndFlags) {
  place.make("file", "content");
  for (unsigned mask : {0u, unsigned(STATX_TYPE), unsigned(STATX_SIZE), unsigned(STATX_INO),
                        unsigned(STATX_BASIC_STATS), 0x80000000u}) {
    for (int flags :
         {0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC, AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC}) {
      struct statx a {};
      place.call("statx", ::statx(place.root(), "file", flags, mask, &a));
      place.note("size and mode", fmt::format("{} {:o}", mask & STATX_SIZE ? a.stx_size : 0,
                                              mask & STATX_MODE ? a.stx_mode : 0));
    }
  }
  UniqueFd fd = place.open("file", O_PATH);
  struct statx a {};
  place.call("empty path", ::statx(fd.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS, &a));
  place.note("size", int64_t(a.stx_size));
  place.note("block size", int64_t(a.stx_blksize));
}

POSIX_CASE(Statx, InodeNumbersAgreeEverywhere) {
  place.make("file");
  place.make_directory("dir");
  for (const char* name : {"file", "dir", "."}) {
    struct statx a {};
    struct stat st {};
    ::statx(place.root(), name, 0, STATX_BASIC_STATS, &a);
    ::fstatat(place.root(), name, &st, 0);
    place.note("same inode", a.stx_ino == st.st_ino);
    place.note("same device", makedev(a.stx_dev_major, a.stx_dev_minor) == st.st_dev);
  }
  place.list(".");
}

// ---- extended attributes ----

void try_xattrs(Place& p, const std::string& name, const std::string& space) {
  const std::string path = p / name, key = space + "key";
  auto set = [&](const char* value, int flags) {
    p.call(fmt::format("set {} of {} {}", key, name, flags),
           ::lsetxattr(path.c_str(), key.c_str(), value, std::strlen(value), flags));
  };
  char value[100] = {};
  auto get = [&](size_t size) {
    const ssize_t n = ::lgetxattr(path.c_str(), key.c_str(), value, size);
    p.call(fmt::format("get {} of {} into {}", key, name, size), n);
    if (n > 0 && size) p.note("value", escape({value, size_t(n)}));
  };
  get(100);
  set("one", XATTR_REPLACE);
  set("one", XATTR_CREATE);
  set("two", XATTR_CREATE);
  get(100);
  get(0);
  get(1);
  get(3);
  set("three", XATTR_REPLACE);
  get(100);
  set("", 0);
  get(100);
  get(0);
  set("x", XATTR_CREATE | XATTR_REPLACE);
  set("x", 8);
  p.call("list probe", ::llistxattr(path.c_str(), nullptr, 0));
  p.call("list short", ::llistxattr(path.c_str(), value, 1));
  p.xattrs(name);
  p.call("remove", ::lremovexattr(path.c_str(), key.c_str()));
  p.call("remove again", ::lremovexattr(path.c_str(), key.c_str()));
  p.xattrs(name);
}

constexpr const char* kSpaces[] = {"user.",  "trusted.", "security.", "system.",
                                   "btrfs.", "none.",    "user",      ""};

POSIX_CASE(Xattrs, EachNamespaceOnEachType) {
  place.make("file");
  place.make_directory("dir");
  place.call("fifo", ::mkfifoat(place.root(), "fifo", 0666));
  place.call("device", ::mknodat(place.root(), "device", S_IFCHR | 0666, makedev(1, 3)));
  for (const char* name : {"file", "dir", "fifo", "device", "absent"}) {
    for (const char* space : kSpaces) try_xattrs(place, name, space);
  }
}

POSIX_CASE(Xattrs, OfSymbolicLinks) {
  place.make("file");
  place.call("symlink", ::symlinkat("file", place.root(), "link"));
  place.call("dangling", ::symlinkat("absent", place.root(), "dangling"));
  for (const char* name : {"link", "dangling"}) {
    for (const char* space : kSpaces) try_xattrs(place, name, space);
  }
  place.call("followed", ::setxattr((place / "link").c_str(), "user.followed", "x", 1, 0));
  place.xattrs("file");
  place.call("moved", ::renameat(place.root(), "link", place.root(), "link2"));
  place.call("set", ::lsetxattr((place / "link2").c_str(), "trusted.t", "value", 5, 0));
  place.call("again", ::renameat(place.root(), "link2", place.root(), "link3"));
  place.call("hard link", ::linkat(place.root(), "link3", place.root(), "link4", 0));
  place.call("unlink", ::unlinkat(place.root(), "link3", 0));
  place.xattrs("link4");
  place.call("remove", ::lremovexattr((place / "link4").c_str(), "trusted.t"));
  place.xattrs("link4");
}

POSIX_CASE(Xattrs, OfOthers) {
  place.make("file", "x", 0644);
  place.make("writable", "x", 0666);
  place.make_directory("sticky", 01777);
  for (const char* space : kSpaces) {
    place.call("set",
               ::setxattr((place / "file").c_str(), (std::string(space) + "k").c_str(), "v", 1, 0));
  }
  place.as(alice(), [](Place& p) {
    p.xattrs("file");
    for (const char* name : {"file", "writable", "sticky"}) {
      for (const char* space : kSpaces) try_xattrs(p, name, space);
    }
  });
}

POSIX_CASE(Xattrs, Limits) {
  place.make("file");
  const std::string path = place / "file";
  for (size_t length : {1, 200, 249, 250, 251, 300}) {
    const std::string name = "user." + std::string(length, 'n');
    place.call("name", ::setxattr(path.c_str(), name.c_str(), "v", 1, 0));
    place.call("remove", ::removexattr(path.c_str(), name.c_str()));
  }
  for (size_t size : {100, 1000, 3000, 5000, 65536, 65537, 1 << 20}) {
    const std::string value(size, 'v');
    place.call("value", ::setxattr(path.c_str(), "user.v", value.data(), value.size(), 0));
    place.call("size", ::getxattr(path.c_str(), "user.v", nullptr, 0));
    std::string read(1 << 20, '\0');
    place.call("read", ::getxattr(path.c_str(), "user.v", read.data(), read.size()));
  }
  for (int i = 0; i < 30; ++i) {
    place.call("many", ::setxattr(path.c_str(), fmt::format("user.many{}", i).c_str(),
                                  std::string(100, 'v').data(), 100, 0));
  }
  place.xattrs("file");
}

POSIX_CASE(Xattrs, ByDescriptor) {
  place.make("file");
  for (int flags : {O_RDONLY, O_WRONLY, O_PATH}) {
    UniqueFd fd = place.open("file", flags);
    place.call("set", ::fsetxattr(fd.get(), "user.k", "v", 1, 0));
    char value[10];
    place.call("get", ::fgetxattr(fd.get(), "user.k", value, sizeof value));
    place.call("list", ::flistxattr(fd.get(), value, sizeof value));
    place.call("remove", ::fremovexattr(fd.get(), "user.k"));
  }
}

// ---- the file system ----

POSIX_CASE(Statfs, ShowsTheDisk) {
  struct statvfs a {
  }, b{};
  UniqueFd fd = place.open(".", O_RDONLY);
  place.call("statvfs", ::statvfs(place.directory().c_str(), &a));
  place.call("fstatvfs", ::fstatvfs(fd.get(), &b));
  place.note("blocks", fmt::format("{} of {}, {} inodes, names of {}", a.f_blocks, a.f_frsize,
                                   a.f_files, a.f_namemax));
  place.note("same", a.f_blocks == b.f_blocks);
  place.note("room", a.f_bavail > 0 && a.f_bavail <= a.f_blocks && a.f_favail > 0);
  place.note("pathconf names", ::pathconf(place.directory().c_str(), _PC_NAME_MAX));
  place.note("pathconf paths", ::pathconf(place.directory().c_str(), _PC_PATH_MAX));
}

}  // namespace
}  // namespace epochfs::testing
