// Names: links, renames, files without a name, names of any length and bytes.
#include <linux/fs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"

namespace epochfs::testing {
namespace {

using HardLinks = PosixTest;
using Rename = PosixTest;
using Unlinked = PosixTest;
using Temporary = PosixTest;
using NamesOf = PosixTest;
using Symlinks = PosixTest;
using OpenFlags = PosixTest;

bool same_inode(Place& p, const std::string& a, const std::string& b) {
  struct stat x {
  }, y{};
  ::fstatat(p.root(), a.c_str(), &x, AT_SYMLINK_NOFOLLOW);
  ::fstatat(p.root(), b.c_str(), &y, AT_SYMLINK_NOFOLLOW);
  return x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

// ---- hard links ----

POSIX_CASE(HardLinks, ShareEverything) {
  place.make("a", "one");
  place.make_directory("dir");
  place.call("link", ::linkat(place.root(), "a", place.root(), "dir/b", 0));
  place.stat("a");
  place.stat("dir/b");
  place.note("same inode", same_inode(place, "a", "dir/b"));
  UniqueFd fd = place.open("dir/b", O_RDWR | O_APPEND);
  place.call("write", ::write(fd.get(), " two", 4));
  place.read("a");
  place.call("chmod", ::fchmodat(place.root(), "a", 0600, 0));
  place.stat("dir/b");
  place.call("setxattr", ::setxattr((place / "a").c_str(), "user.k", "v", 1, 0));
  place.xattrs("dir/b");
  place.call("unlink", ::unlinkat(place.root(), "a", 0));
  place.stat("dir/b");
  place.fstat("open one", fd.get());
  place.read("dir/b");
}

POSIX_CASE(HardLinks, Refusals) {
  place.make("file");
  place.make_directory("dir");
  place.call("to a directory", ::linkat(place.root(), "dir", place.root(), "x", 0));
  place.call("onto a name", ::linkat(place.root(), "file", place.root(), "dir", 0));
  place.call("onto itself", ::linkat(place.root(), "file", place.root(), "file", 0));
  place.call("of nothing", ::linkat(place.root(), "absent", place.root(), "x", 0));
  place.call("into nothing", ::linkat(place.root(), "file", place.root(), "absent/x", 0));
  place.call("below a file", ::linkat(place.root(), "file", place.root(), "file/x", 0));
  place.call("across", ::linkat(AT_FDCWD, "/proc/self/comm", place.root(), "x", 0));
  place.call("trailing slash", ::linkat(place.root(), "file", place.root(), "x/", 0));
}

POSIX_CASE(HardLinks, OfSymlinksAndNodes) {
  place.call("symlink", ::symlinkat("file", place.root(), "symlink"));
  place.call("fifo", ::mkfifoat(place.root(), "fifo", 0644));
  place.call("device", ::mknodat(place.root(), "device", S_IFCHR | 0644, 0x103));
  for (const char* name : {"symlink", "fifo", "device"}) {
    const std::string other = std::string(name) + "-2";
    place.call("link", ::linkat(place.root(), name, place.root(), other.c_str(), 0));
    place.stat(other);
    place.note("same inode", same_inode(place, name, other));
  }
  place.call("followed", ::linkat(place.root(), "symlink", place.root(), "x", AT_SYMLINK_FOLLOW));
}

POSIX_CASE(HardLinks, Many) {
  place.make("file");
  int64_t made = 0;
  for (int i = 0; i < 1000; ++i) {
    made += ::linkat(place.root(), "file", place.root(), ("l" + std::to_string(i)).c_str(), 0) == 0;
  }
  place.note("made", made);
  place.stat("file");
  for (int i = 0; i < 1000; i += 2) {
    ::unlinkat(place.root(), ("l" + std::to_string(i)).c_str(), 0);
  }
  place.stat("l1");
}

// ---- rename ----

// One of each type, and what a name can be besides.
void make_zoo(Place& p, const std::string& prefix) {
  p.make(prefix + "file", prefix);
  p.make_directory(prefix + "empty");
  p.make_directory(prefix + "full");
  p.make(prefix + "full/child");
  if (::symlinkat("anywhere", p.root(), (prefix + "symlink").c_str()) != 0 ||
      ::mkfifoat(p.root(), (prefix + "fifo").c_str(), 0644) != 0 ||
      ::mknodat(p.root(), (prefix + "device").c_str(), S_IFBLK | 0600, 0x700) != 0) {
    throw_errno("make one of each");
  }
}
constexpr const char* kZoo[] = {"file", "empty", "full", "symlink", "fifo", "device", "absent"};

void rename_each_onto_each(Place& place, unsigned flags) {
  for (const char* from : kZoo) {
    for (const char* to : kZoo) {
      const std::string dir = std::string(from) + "-" + to;
      place.make_directory(dir);
      make_zoo(place, dir + "/a-");
      make_zoo(place, dir + "/b-");
      place.call(dir, ::renameat2(place.root(), (dir + "/a-" + from).c_str(), place.root(),
                                  (dir + "/b-" + to).c_str(), flags));
      place.list(dir);
      place.stat(dir + "/a-" + from);
      place.stat(dir + "/b-" + to);
    }
  }
}

POSIX_CASE(Rename, EachTypeOntoEachType) { rename_each_onto_each(place, 0); }
POSIX_CASE(Rename, ExchangeOfEachTypeWithEachType) {
  rename_each_onto_each(place, RENAME_EXCHANGE);
}
POSIX_CASE(Rename, NoReplace) { rename_each_onto_each(place, RENAME_NOREPLACE); }
POSIX_CASE(Rename, Whiteout) { rename_each_onto_each(place, RENAME_WHITEOUT); }

POSIX_CASE(Rename, FlagsThatExcludeEachOther) {
  make_zoo(place, "");
  for (unsigned flags : std::initializer_list<unsigned>{
           RENAME_EXCHANGE | RENAME_NOREPLACE, RENAME_EXCHANGE | RENAME_WHITEOUT,
           RENAME_NOREPLACE | RENAME_WHITEOUT, 8u, 1u << 31}) {
    place.call("rename", ::renameat2(place.root(), "file", place.root(), "new", flags));
    place.call("back", ::renameat2(place.root(), "new", place.root(), "file", 0));
  }
  place.list(".");
}

POSIX_CASE(Rename, WithinAndIntoItself) {
  place.make_directory("a");
  place.make_directory("a/b");
  place.make("a/b/file", "x");
  place.call("into itself", ::renameat(place.root(), "a", place.root(), "a/b/c"));
  place.call("onto its parent", ::renameat(place.root(), "a/b", place.root(), "a"));
  place.call("onto itself", ::renameat(place.root(), "a", place.root(), "a"));
  place.call("dot", ::renameat(place.root(), "a/.", place.root(), "c"));
  place.call("dot dot", ::renameat(place.root(), "a/..", place.root(), "c"));
  place.call("slash", ::renameat(place.root(), "a/b/file/", place.root(), "c"));
  place.call("directory with slash", ::renameat(place.root(), "a/b/", place.root(), "c/"));
  place.call("across", ::renameat(place.root(), "c", AT_FDCWD, "/proc/c"));
  place.read("c/file");
}

POSIX_CASE(Rename, TwoNamesOfOneFile) {
  place.make("a", "x");
  place.call("link", ::linkat(place.root(), "a", place.root(), "b", 0));
  place.call("rename", ::renameat(place.root(), "a", place.root(), "b"));
  place.list(".");
  place.stat("a");
}

POSIX_CASE(Rename, DirectoryAcrossDirectoriesKeepsDotDot) {
  place.make_directory("a");
  place.make_directory("b");
  place.make_directory("a/child");
  place.make("b/mark", "in b");
  UniqueFd child = place.open("a/child", O_RDONLY | O_DIRECTORY);
  place.call("rename", ::renameat(place.root(), "a/child", place.root(), "b/child"));
  place.opened("dot dot", ::openat(child.get(), "../mark", O_RDONLY));
  place.stat("a");
  place.stat("b");
  place.call("exchange across",
             ::renameat2(place.root(), "a", place.root(), "b/child", RENAME_EXCHANGE));
  place.stat("a");
  place.stat("b");
  place.stat("b/child");
}

POSIX_CASE(Rename, OpenFilesAndCurrentDirectoryFollow) {
  place.make_directory("dir");
  place.make("dir/file", "x");
  place.in_child([](Place& p) {
    p.call("chdir", ::fchdir(p.root()) == 0 ? ::chdir("dir") : -1);
    UniqueFd fd = p.opened("file", ::open("file", O_RDWR | O_APPEND));
    p.call("rename", ::renameat(p.root(), "dir", p.root(), "moved"));
    char path[PATH_MAX];
    p.note("getcwd ends in moved",
           ::getcwd(path, sizeof path) ? std::string_view(path).ends_with("/moved") : -1);
    p.call("write", ::write(fd.get(), "y", 1));
    p.call("create", ::close(::open("new", O_WRONLY | O_CREAT, 0644)));
    p.list("moved");
    p.read("moved/file");
  });
}

POSIX_CASE(Rename, ReplacedFileGoesOnForWhoHasItOpen) {
  place.make("old", "the old one");
  place.make("new", "the new one");
  UniqueFd old = place.open("old", O_RDWR);
  place.call("rename", ::renameat(place.root(), "new", place.root(), "old"));
  place.read("old");
  place.read_fd("old descriptor", old.get(), 0, 100);
  place.fstat("old descriptor", old.get());
  place.call("write", ::pwrite(old.get(), "THE", 3, 0));
  place.read_fd("old descriptor", old.get(), 0, 100);
  place.read("old");
}

// ---- files without a name ----

void use_unlinked(Place& p, UniqueFd fd) {
  p.fstat("unlinked", fd.get());
  p.call("write", ::pwrite(fd.get(), "written", 7, 3));
  p.read_fd("unlinked", fd.get(), 0, 100);
  p.call("ftruncate", ::ftruncate(fd.get(), 5));
  p.call("fchmod", ::fchmod(fd.get(), 0640));
  p.call("fchown", ::fchown(fd.get(), kAlice, kTeam));
  p.call("fsetxattr", ::fsetxattr(fd.get(), "user.key", "value", 5, 0));
  char value[64] = {};
  p.call("fgetxattr", ::fgetxattr(fd.get(), "user.key", value, sizeof value));
  p.call("flistxattr", ::flistxattr(fd.get(), value, sizeof value));
  p.call("fremovexattr", ::fremovexattr(fd.get(), "user.key"));
  const timespec times[2] = {{1, 2}, {3, 4}};
  p.call("futimens", ::futimens(fd.get(), times));
  p.call("fsync", ::fsync(fd.get()));
  p.call("fallocate", ::posix_fallocate(fd.get(), 0, 8192));
  p.fstat("unlinked", fd.get());
  UniqueFd again = p.opened("reopen", ::open(fd_path(fd.get()).c_str(), O_RDWR));
  p.call("write", ::pwrite(again.get(), "again", 5, 0));
  p.read_fd("through the first", fd.get(), 0, 10);
  UniqueFd path = p.opened("as path", ::open(fd_path(fd.get()).c_str(), O_PATH));
  fd.reset();
  again.reset();
  again = p.opened("from path", ::open(fd_path(path.get()).c_str(), O_RDONLY));
  p.read_fd("reopened", again.get(), 0, 10);
}

POSIX_CASE(Unlinked, EverythingGoesOn) {
  place.make("file", "content");
  UniqueFd fd = place.open("file", O_RDWR);
  place.call("unlink", ::unlinkat(place.root(), "file", 0));
  place.stat("file");
  use_unlinked(place, std::move(fd));
  place.list(".");
}

POSIX_CASE(Unlinked, AfterBeingReplaced) {
  place.make("file", "content");
  place.make("other", "other");
  UniqueFd fd = place.open("file", O_RDWR);
  place.call("rename", ::renameat(place.root(), "other", place.root(), "file"));
  use_unlinked(place, std::move(fd));
  place.read("file");
}

POSIX_CASE(Unlinked, NameIsUsedAgain) {
  place.make("file", "first");
  UniqueFd fd = place.open("file", O_RDWR);
  place.call("unlink", ::unlinkat(place.root(), "file", 0));
  place.make("file", "second");
  place.read("file");
  place.read_fd("first", fd.get(), 0, 100);
  use_unlinked(place, std::move(fd));
}

POSIX_CASE(Unlinked, NoNewName) {
  place.make("file", "content");
  UniqueFd fd = place.open("file", O_RDWR);
  place.call("unlink", ::unlinkat(place.root(), "file", 0));
  place.call("linkat", ::linkat(fd.get(), "", place.root(), "x", AT_EMPTY_PATH));
  place.call("linkat through /proc",
             ::linkat(AT_FDCWD, fd_path(fd.get()).c_str(), place.root(), "x", AT_SYMLINK_FOLLOW));
}

POSIX_CASE(Unlinked, RemovedDirectory) {
  place.make_directory("dir");
  UniqueFd dir = place.open("dir", O_RDONLY | O_DIRECTORY);
  place.call("rmdir", ::unlinkat(place.root(), "dir", AT_REMOVEDIR));
  place.fstat("removed", dir.get());
  place.opened("create", ::openat(dir.get(), "x", O_WRONLY | O_CREAT, 0644));
  place.call("mkdir", ::mkdirat(dir.get(), "x", 0755));
  place.opened("dot", ::openat(dir.get(), ".", O_RDONLY));
  place.opened("absent", ::openat(dir.get(), "absent", O_RDONLY));
  char path[PATH_MAX];
  place.in_child([&](Place& p) {
    p.call("fchdir", ::fchdir(dir.get()));
    p.call("getcwd", ::getcwd(path, sizeof path) ? 0 : -1);
    p.call("chdir ..", ::chdir(".."));
    p.call("getcwd above", ::getcwd(path, sizeof path) ? 0 : -1);
  });
  place.in_child([&](Place& p) {
    p.call("fchdir", ::fchdir(dir.get()));
    p.opened("create here", ::open("file", O_WRONLY | O_CREAT, 0644));
    p.call("chmod .", ::chmod(".", 0700));
    p.fstat("removed", dir.get());
  });
}

POSIX_CASE(Unlinked, Removals) {
  place.make("file");
  place.make_directory("empty");
  place.make_directory("full");
  place.make("full/x");
  place.call("rmdir of a file", ::unlinkat(place.root(), "file", AT_REMOVEDIR));
  place.call("unlink of a directory", ::unlinkat(place.root(), "empty", 0));
  place.call("rmdir of a full one", ::unlinkat(place.root(), "full", AT_REMOVEDIR));
  place.call("dot", ::unlinkat(place.root(), "empty/.", AT_REMOVEDIR));
  place.call("dot dot", ::unlinkat(place.root(), "full/..", AT_REMOVEDIR));
  place.call("absent", ::unlinkat(place.root(), "absent", 0));
  place.call("below a file", ::unlinkat(place.root(), "file/x", 0));
  place.call("slash", ::unlinkat(place.root(), "file/", 0));
  place.call("empty one", ::unlinkat(place.root(), "empty", AT_REMOVEDIR));
  place.stat(".");
}

// ---- O_TMPFILE ----

POSIX_CASE(Temporary, GetsANameLater) {
  UniqueFd fd = place.opened("tmpfile", ::openat(place.root(), ".", O_TMPFILE | O_RDWR, 0640));
  place.fstat("nameless", fd.get());
  place.list(".");
  place.call("write", ::write(fd.get(), "content", 7));
  place.call("xattr", ::fsetxattr(fd.get(), "user.a", "b", 1, 0));
  place.call("link", ::linkat(AT_FDCWD, fd_path(fd.get()).c_str(), place.root(), "named",
                              AT_SYMLINK_FOLLOW));
  place.fstat("named", fd.get());
  place.stat("named");
  place.read("named");
  place.xattrs("named");
  place.call("write", ::write(fd.get(), " more", 5));
  fd.reset();
  place.read("named");
  place.list(".");
}

POSIX_CASE(Temporary, ByEmptyPathAndExclusive) {
  UniqueFd fd = place.opened("tmpfile", ::openat(place.root(), ".", O_TMPFILE | O_WRONLY, 0600));
  place.call("link", ::linkat(fd.get(), "", place.root(), "named", AT_EMPTY_PATH));
  place.stat("named");
  place.call("link again", ::linkat(fd.get(), "", place.root(), "named-2", AT_EMPTY_PATH));
  place.stat("named");
  UniqueFd exclusive =
      place.opened("exclusive", ::openat(place.root(), ".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
  place.call("link", ::linkat(AT_FDCWD, fd_path(exclusive.get()).c_str(), place.root(), "never",
                              AT_SYMLINK_FOLLOW));
  use_unlinked(place, std::move(exclusive));
}

POSIX_CASE(Temporary, Refusals) {
  place.make("file");
  place.opened("read-only", ::openat(place.root(), ".", O_TMPFILE | O_RDONLY, 0600));
  place.opened("in a file", ::openat(place.root(), "file", O_TMPFILE | O_RDWR, 0600));
  place.opened("in nothing", ::openat(place.root(), "absent", O_TMPFILE | O_RDWR, 0600));
  place.make_directory("shut", 0755);
  place.as(alice(), [](Place& p) {
    p.opened("not allowed", ::openat(p.root(), "shut", O_TMPFILE | O_RDWR, 0600));
  });
  place.make_directory("open", 02777);
  place.own("open", 0, kTeam);
  place.as(alice(), [](Place& p) {
    UniqueFd fd = p.opened("allowed", ::openat(p.root(), "open", O_TMPFILE | O_RDWR, 0666));
    p.fstat("allowed", fd.get());
    p.call("write", ::write(fd.get(), "x", 1));
    p.call("link", ::linkat(AT_FDCWD, fd_path(fd.get()).c_str(), p.root(), "open/named",
                            AT_SYMLINK_FOLLOW));
    p.stat("open/named");
  });
}

// ---- names ----

POSIX_CASE(NamesOf, EveryLength) {
  for (size_t length : {1, 2, 100, 254, 255, 256, 1000}) {
    const std::string name(length, 'n');
    place.call("create", ::close(::openat(place.root(), name.c_str(), O_WRONLY | O_CREAT, 0644)));
    place.call("unlink", ::unlinkat(place.root(), name.c_str(), 0));
    place.call("mkdir", ::mkdirat(place.root(), name.c_str(), 0755));
    place.call("symlink", ::symlinkat("x", place.root(), (name + "s").c_str()));
    place.call("mkfifo", ::mkfifoat(place.root(), (name + "f").c_str(), 0644));
    place.call("rename",
               ::renameat(place.root(), name.c_str(), place.root(), (name + "r").c_str()));
    place.call("link",
               ::linkat(place.root(), (name + "f").c_str(), place.root(), (name + "l").c_str(), 0));
    struct stat st;
    place.call("stat", ::fstatat(place.root(), name.c_str(), &st, 0));
  }
  place.list(".");
}

POSIX_CASE(NamesOf, EveryByte) {
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '/') continue;
    const std::string name = std::string("x") + char(byte) + "y";
    place.make(name, name);
    place.read(name);
    const std::string alone(1, char(byte));
    if (alone != ".") place.call("mkdir", ::mkdirat(place.root(), alone.c_str(), 0755));
  }
  place.list(".");
  for (const char* name : {"...", "  ", "\xff\xfe", "-rf", "**", "a\nb", "\xc3\x28", "con", "é"}) {
    place.make(name, "x");
    place.stat(name);
  }
}

POSIX_CASE(NamesOf, DeepPaths) {
  UniqueFd at(::dup(place.root()));
  const std::string name(200, 'd');
  int64_t made = 0;
  for (int i = 0; i < 40; ++i) {
    made += ::mkdirat(at.get(), name.c_str(), 0755) == 0;
    at.reset(::openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  place.note("made", made);
  place.opened("file", ::openat(at.get(), "file", O_WRONLY | O_CREAT, 0644));
  std::string path = name;
  while (path.size() < PATH_MAX) path += "/" + name;
  place.opened("path that is too long", ::openat(place.root(), path.c_str(), O_RDONLY));
  at.reset(::openat(at.get(), "../../../..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat st;
  place.call(
      "four below",
      ::fstatat(at.get(), (name + "/" + name + "/" + name + "/" + name + "/file").c_str(), &st, 0));
}

POSIX_CASE(NamesOf, EmptyDotsAndSlashes) {
  place.make("file", "x");
  place.make_directory("dir");
  for (const char* name : {"", ".", "..", "./file", "dir/../file", "dir//../file", "file/", "dir/",
                           "file/.", "absent/..", "dir/.", "dir/..", "file/.."}) {
    struct stat st;
    place.call(std::string("stat ") + name, ::fstatat(place.root(), name, &st, 0));
    place.call(std::string("mkdir ") + name, ::mkdirat(place.root(), name, 0755));
    place.opened(std::string("create ") + name,
                 ::openat(place.root(), name, O_WRONLY | O_CREAT | O_EXCL, 0644));
  }
  place.list(".");
}

// ---- symbolic links ----

POSIX_CASE(Symlinks, TargetsOfEveryLength) {
  for (size_t length : {1, 59, 60, 61, 255, 1000, 4000, 4094, 4095, 4096}) {
    const std::string target(length, 't'), name = "link" + std::to_string(length);
    place.call("symlink", ::symlinkat(target.c_str(), place.root(), name.c_str()));
    char found[5000];
    place.call("readlink", ::readlinkat(place.root(), name.c_str(), found, sizeof found));
    place.call("readlink short", ::readlinkat(place.root(), name.c_str(), found, 10));
    place.stat(name);
  }
  place.call("empty", ::symlinkat("", place.root(), "x"));
  place.call("odd bytes", ::symlinkat("\xff\n/..", place.root(), "odd"));
  char found[10];
  place.call("readlink", ::readlinkat(place.root(), "odd", found, sizeof found));
  place.call("onto a name", ::symlinkat("y", place.root(), "odd"));
  place.make("file");
  place.call("readlink of a file", ::readlinkat(place.root(), "file", found, sizeof found));
}

POSIX_CASE(Symlinks, AreFollowedOrNot) {
  place.make_directory("dir");
  place.make("dir/file", "content");
  place.call("to file", ::symlinkat("dir/file", place.root(), "to-file"));
  place.call("to dir", ::symlinkat("dir", place.root(), "to-dir"));
  place.call("dangling", ::symlinkat("absent", place.root(), "dangling"));
  place.call("loop", ::symlinkat("loop", place.root(), "loop"));
  place.call("a", ::symlinkat("b", place.root(), "a"));
  place.call("b", ::symlinkat("a", place.root(), "b"));
  for (const char* name : {"to-file", "to-dir", "to-dir/file", "dangling", "loop", "a", "a/x",
                           "to-file/", "to-dir/"}) {
    place.open(name, O_RDONLY);
    place.open(name, O_RDONLY | O_NOFOLLOW);
    place.open(name, O_RDONLY | O_DIRECTORY);
    place.open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    place.open(name, O_WRONLY | O_CREAT | O_EXCL);
    struct stat st;
    place.call("stat", ::fstatat(place.root(), name, &st, 0));
    place.stat(name);
    UniqueFd path = place.open(name, O_PATH | O_NOFOLLOW);
    place.fstat("O_PATH", path.get());
    char target[100];
    place.call("readlink of O_PATH", ::readlinkat(path.get(), "", target, sizeof target));
    char byte;
    place.call("read of O_PATH", ::read(path.get(), &byte, 1));
  }
  place.open("dangling", O_WRONLY | O_CREAT);
  place.list(".");
}

POSIX_CASE(Symlinks, ALongChain) {
  place.make("end", "content");
  std::string before = "end";
  for (int i = 0; i < 45; ++i) {
    const std::string name = "l" + std::to_string(i);
    if (::symlinkat(before.c_str(), place.root(), name.c_str()) != 0) throw_errno("symlink");
    before = name;
  }
  // 40 may be followed. Just below that the kernel may give up as well: when it has to begin
  // a walk anew, up to three times, it goes on counting.
  for (int i : {0, 12, 40, 41, 44}) place.read("l" + std::to_string(i));
}

// ---- flags of open ----

POSIX_CASE(OpenFlags, EachFlagOnEachType) {
  make_zoo(place, "");
  for (const char* name : {"file", "empty", "symlink", "fifo", "absent", "file/x", "absent/x"}) {
    for (int flags :
         {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDWR | O_APPEND, O_RDONLY | O_DIRECTORY,
          O_RDWR | O_DIRECTORY, O_RDONLY | O_NOFOLLOW, O_PATH | 0, O_PATH | O_DIRECTORY,
          O_RDONLY | O_SYNC, O_WRONLY | O_DSYNC, O_RDONLY | O_NOATIME, O_WRONLY | O_CREAT | O_EXCL,
          O_RDONLY | O_CREAT | O_DIRECTORY, O_RDWR | O_CREAT | O_TRUNC}) {
      UniqueFd fd = place.open(name, flags | O_NONBLOCK);
      if (!fd) continue;
      place.note("flags", ::fcntl(fd.get(), F_GETFL) & ~O_NOATIME);
      char byte = 'x';
      place.call("write", ::write(fd.get(), &byte, 1));
      if (std::string_view(name) != "fifo") place.call("read", ::read(fd.get(), &byte, 1));
    }
    if (std::string_view(name) == "absent") place.call("unlink", ::unlinkat(place.root(), name, 0));
  }
}

POSIX_CASE(OpenFlags, NoatimeIsTheOwners) {
  place.make("file", "x", 0666);
  place.own("file", kAlice, kAlice);
  place.as(alice(), [](Place& p) { p.open("file", O_RDONLY | O_NOATIME); });
  place.as(bob(), [](Place& p) { p.open("file", O_RDONLY | O_NOATIME); });
}

POSIX_CASE(OpenFlags, CreateWithoutRights) {
  place.open("none", O_RDWR | O_CREAT, 0000);
  place.stat("none");
  place.make_directory("open", 0777);
  place.as(alice(), [](Place& p) {
    UniqueFd fd = p.open("open/none", O_RDWR | O_CREAT | O_EXCL, 0000);
    p.call("write", ::write(fd.get(), "x", 1));
    p.read_fd("own", fd.get(), 0, 10);
    p.open("open/none", O_RDONLY);
    fd = p.open("open/readable", O_WRONLY | O_CREAT, 0444);
    p.call("write", ::write(fd.get(), "x", 1));
    p.open("open/readable", O_WRONLY);
  });
}

}  // namespace
}  // namespace epochfs::testing
