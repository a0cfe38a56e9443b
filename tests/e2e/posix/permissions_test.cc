// Who may do what, and who owns what is made?
#include <linux/falloc.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <sstream>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"

namespace epochfs::testing {
namespace {

using Ownership = PosixTest;
using Modes = PosixTest;
using Acls = PosixTest;
using SetIdBits = PosixTest;

// ---- ownership of what is made ----

void make_one_of_each(Place& p, const std::string& in) {
  p.open(in + "/file", O_WRONLY | O_CREAT, 0666);
  p.call("mkdir", ::mkdirat(p.root(), (in + "/directory").c_str(), 0777));
  p.call("symlink", ::symlinkat("target", p.root(), (in + "/symlink").c_str()));
  p.call("mkfifo", ::mkfifoat(p.root(), (in + "/fifo").c_str(), 0666));
  p.call("mknod", ::mknodat(p.root(), (in + "/node").c_str(), S_IFREG | 0666, 0));
  p.call("device", ::mknodat(p.root(), (in + "/device").c_str(), S_IFCHR | 0666, 0x103));
  for (const char* name : {"file", "directory", "symlink", "fifo", "node", "device"}) {
    p.stat(in + "/" + name);
  }
}

POSIX_CASE(Ownership, NewFilesAreTheCallers) {
  place.make_directory("open", 0777);
  place.as(alice(), [](Place& p) { make_one_of_each(p, "open"); });
}

POSIX_CASE(Ownership, NewFilesOfRootAreRoots) {
  place.make_directory("open", 0777);
  make_one_of_each(place, "open");
}

POSIX_CASE(Ownership, ASetgidDirectoryGivesItsGroup) {
  place.make_directory("team", 02777);
  place.own("team", 0, kTeam);
  place.as(alice(), [](Place& p) {
    make_one_of_each(p, "team");
    // Not a member: the file may not become set-gid of that group.
    p.open("team/setgid", O_WRONLY | O_CREAT, 02777);
    p.stat("team/setgid");
    p.call("chmod", ::fchmodat(p.root(), "team/file", 02755, 0));
    p.stat("team/file");
  });
  place.as(alice_of_the_team(), [](Place& p) {
    p.open("team/setgid-by-member", O_WRONLY | O_CREAT, 02777);
    p.stat("team/setgid-by-member");
    p.call("chmod", ::fchmodat(p.root(), "team/setgid-by-member", 02755, 0));
    p.stat("team/setgid-by-member");
  });
}

POSIX_CASE(Ownership, UmaskOfEachCaller) {
  place.make_directory("open", 0777);
  for (mode_t mask : {0u, 02u, 027u, 077u, 0777u}) {
    Who who = alice();
    who.umask = mask;
    const std::string suffix = std::to_string(mask);
    place.as(who, [&](Place& p) {
      p.open("open/file" + suffix, O_WRONLY | O_CREAT, 0777);
      p.call("mkdir", ::mkdirat(p.root(), ("open/dir" + suffix).c_str(), 0777));
      p.call("mkfifo", ::mkfifoat(p.root(), ("open/fifo" + suffix).c_str(), 0777));
      for (const char* name : {"open/file", "open/dir", "open/fifo"}) p.stat(name + suffix);
    });
  }
}

POSIX_CASE(Ownership, Chown) {
  place.make("file", "x");
  place.own("file", kAlice, kAlice);
  place.as(alice_of_the_team(), [](Place& p) {
    p.call("to bob", ::fchownat(p.root(), "file", kBob, gid_t(-1), 0));
    p.call("to the team", ::fchownat(p.root(), "file", uid_t(-1), kTeam, 0));
    p.stat("file");
    p.call("to a strange group", ::fchownat(p.root(), "file", uid_t(-1), kBob, 0));
    p.call("to nobody new", ::fchownat(p.root(), "file", uid_t(-1), gid_t(-1), 0));
  });
  place.as(bob(), [](Place& p) {
    p.call("by bob", ::fchownat(p.root(), "file", kBob, kBob, 0));
    p.call("nothing, by bob", ::fchownat(p.root(), "file", uid_t(-1), gid_t(-1), 0));
  });
  place.call("by root", ::fchownat(place.root(), "file", kBob, kTeam, 0));
  place.stat("file");
  place.call("symlink", ::symlinkat("file", place.root(), "link"));
  place.call("lchown", ::fchownat(place.root(), "link", kAlice, kAlice, AT_SYMLINK_NOFOLLOW));
  place.stat("link");
  place.stat("file");
}

// ---- modes ----

void try_everything(Place& p, const std::string& name) {
  p.open(name, O_RDONLY);
  p.open(name, O_WRONLY);
  p.open(name, O_RDWR | O_TRUNC);
  for (int mode : {F_OK, R_OK, W_OK, X_OK, R_OK | W_OK | X_OK}) {
    p.call("access " + std::to_string(mode), ::faccessat(p.root(), name.c_str(), mode, 0));
    p.call("eaccess " + std::to_string(mode),
           ::faccessat(p.root(), name.c_str(), mode, AT_EACCESS));
  }
  p.call("truncate", ::truncate((p / name).c_str(), 1));
  p.call("chmod", ::fchmodat(p.root(), name.c_str(), 0600, 0));
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  const timespec past[2] = {{1, 0}, {1, 0}};
  p.call("times now", ::utimensat(p.root(), name.c_str(), now, 0));
  p.call("times past", ::utimensat(p.root(), name.c_str(), past, 0));
  p.call("setxattr", ::setxattr((p / name).c_str(), "user.a", "1", 1, 0));
  char value[8];
  p.call("getxattr", ::getxattr((p / name).c_str(), "user.a", value, sizeof value));
}

POSIX_CASE(Modes, EachModeForOwnerGroupAndOthers) {
  for (mode_t mode : {0000, 0400, 0200, 0100, 0040, 0020, 0004, 0002, 0644, 0755}) {
    const std::string name = "file" + std::to_string(mode);
    for (const Who& who : {alice(), alice_of_the_team(), bob()}) {
      place.make(name, "content", mode);
      place.call("chmod", ::fchmodat(place.root(), name.c_str(), mode, 0));
      place.own(name, who.groups.empty() ? kAlice : kBob, kTeam);
      place.as(who, [&](Place& p) { try_everything(p, name); });
      place.stat(name);
    }
  }
}

POSIX_CASE(Modes, Directories) {
  for (mode_t mode : {0000, 0100, 0200, 0300, 0400, 0500, 0700, 0007, 0001, 0003}) {
    const std::string dir = "dir" + std::to_string(mode);
    place.make_directory(dir);
    place.make(dir + "/file", "x", 0666);
    place.call("chmod", ::fchmodat(place.root(), dir.c_str(), mode, 0));
    place.own(dir, kAlice, kAlice);
    for (const Who& who : {alice(), bob()}) {
      place.as(who, [&](Place& p) {
        p.list(dir);
        p.stat(dir + "/file");
        p.stat(dir + "/absent");
        p.open(dir + "/file", O_RDWR);
        p.open(dir + "/new", O_RDWR | O_CREAT);
        p.call("rename",
               ::renameat(p.root(), (dir + "/file").c_str(), p.root(), (dir + "/renamed").c_str()));
        p.call("back",
               ::renameat(p.root(), (dir + "/renamed").c_str(), p.root(), (dir + "/file").c_str()));
        p.call("link",
               ::linkat(p.root(), (dir + "/file").c_str(), p.root(), (dir + "/link").c_str(), 0));
        p.call("unlink link", ::unlinkat(p.root(), (dir + "/link").c_str(), 0));
        p.call("unlink new", ::unlinkat(p.root(), (dir + "/new").c_str(), 0));
        p.call("chdir", ::chdir((p / dir).c_str()));
      });
    }
    place.call("chmod", ::fchmodat(place.root(), dir.c_str(), 0755, 0));
    place.list(dir);
  }
}

POSIX_CASE(Modes, StickyDirectory) {
  place.make_directory("tmp", 01777);
  for (const char* name : {"tmp/of-alice", "tmp/of-alice-too", "tmp/of-alice-at-last"}) {
    place.make(name, "x", 0666);
    place.own(name, kAlice, kAlice);
  }
  place.make_directory("tmp/directory-of-alice", 0777);
  place.own("tmp/directory-of-alice", kAlice, kAlice);
  place.as(bob(), [](Place& p) {
    p.call("unlink", ::unlinkat(p.root(), "tmp/of-alice", 0));
    p.call("rename", ::renameat(p.root(), "tmp/of-alice", p.root(), "tmp/of-bob"));
    p.call("rmdir", ::unlinkat(p.root(), "tmp/directory-of-alice", AT_REMOVEDIR));
    p.open("tmp/mine", O_WRONLY | O_CREAT);
    p.call("rename over", ::renameat(p.root(), "tmp/mine", p.root(), "tmp/of-alice"));
    p.call("exchange",
           ::renameat2(p.root(), "tmp/mine", p.root(), "tmp/of-alice", RENAME_EXCHANGE));
    p.call("unlink mine", ::unlinkat(p.root(), "tmp/mine", 0));
  });
  place.as(alice(), [](Place& p) {
    p.call("unlink", ::unlinkat(p.root(), "tmp/of-alice", 0));
    p.call("rename", ::renameat(p.root(), "tmp/of-alice-too", p.root(), "tmp/renamed"));
    p.call("rmdir", ::unlinkat(p.root(), "tmp/directory-of-alice", AT_REMOVEDIR));
  });
  place.call("by root", ::unlinkat(place.root(), "tmp/of-alice-at-last", 0));
  place.list("tmp");
}

POSIX_CASE(Modes, EachBitOfChmod) {
  place.make("file");
  place.make_directory("directory");
  for (mode_t mode : {0, 01, 010, 0100, 01000, 02000, 04000, 06755, 07777, 0644}) {
    place.call("chmod", ::fchmodat(place.root(), "file", mode, 0));
    place.stat("file");
    place.call("chmod", ::fchmodat(place.root(), "directory", mode, 0));
    place.stat("directory");
  }
  place.call("symlink", ::symlinkat("file", place.root(), "link"));
  place.call("chmod of a link", ::fchmodat(place.root(), "link", 0600, AT_SYMLINK_NOFOLLOW));
  place.stat("link");
}

POSIX_CASE(Modes, RealAndEffectiveUser) {
  place.make("file", "x", 0600);
  place.own("file", kAlice, kAlice);
  place.in_child([](Place& p) {
    if (::setresuid(kAlice, kBob, 0) != 0) throw_errno("setresuid");
    p.call("access", ::faccessat(p.root(), "file", R_OK, 0));
    p.call("eaccess", ::faccessat(p.root(), "file", R_OK, AT_EACCESS));
    p.open("file", O_RDONLY);
  });
}

// ---- ACLs ----

enum class AclType { kAccess, kDefault };

const char* attribute_of(AclType type) {
  return type == AclType::kAccess ? "system.posix_acl_access" : "system.posix_acl_default";
}

constexpr char kAclTags[] = "uUgGmo";  // owner, user, group, named group, mask, others
constexpr uint16_t kAclNumbers[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20};

// The kernel's form of "u::rw,U:61001:r,g::,m::r,o::", little-endian as the machine.
std::string encode_acl(const std::string& text) {
  std::string out("\2\0\0\0", 4);
  std::istringstream in(text);
  for (std::string entry; std::getline(in, entry, ',');) {
    const size_t colon = entry.rfind(':');
    const std::string id = entry.substr(2, colon - 2), rights = entry.substr(colon + 1);
    uint16_t words[2] = {kAclNumbers[std::strchr(kAclTags, entry[0]) - kAclTags], 0};
    for (char right : rights) words[1] |= right == 'r' ? 4 : right == 'w' ? 2 : 1;
    const uint32_t number = id.empty() ? UINT32_MAX : uint32_t(std::stoul(id));
    out.append(reinterpret_cast<const char*>(words), sizeof words);
    out.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  return out;
}

void set_acl(Place& p, const std::string& name, AclType type, const std::string& text) {
  const std::string acl = encode_acl(text);
  p.call("set ACL of " + name + " to " + text,
         ::setxattr((p / name).c_str(), attribute_of(type), acl.data(), acl.size(), 0));
}

void note_acl(Place& p, const std::string& name, AclType type) {
  char acl[1024];
  const ssize_t size = ::getxattr((p / name).c_str(), attribute_of(type), acl, sizeof acl);
  p.note("ACL of " + name, size < 0 ? name_of_errno(errno) : escape({acl, size_t(size)}));
}

POSIX_CASE(Acls, AnAccessAclLetsANamedUserIn) {
  place.make("file", "content", 0600);
  set_acl(place, "file", AclType::kAccess, "u::rw,U:61001:r,g::,m::r,o::");
  place.stat("file");
  note_acl(place, "file", AclType::kAccess);
  place.xattrs("file");
  place.as(alice(), [](Place& p) {
    p.read("file");
    p.open("file", O_WRONLY);
    set_acl(p, "file", AclType::kAccess, "u::rw,g::rw,o::rw");
  });
  place.as(bob(), [](Place& p) {
    p.read("file");
    note_acl(p, "file", AclType::kAccess);
  });
  place.call("chmod changes the mask", ::fchmodat(place.root(), "file", 0660, 0));
  note_acl(place, "file", AclType::kAccess);
  place.as(alice(), [](Place& p) { p.open("file", O_RDONLY); });
  place.call("chmod shuts it", ::fchmodat(place.root(), "file", 0600, 0));
  place.as(alice(), [](Place& p) { p.open("file", O_RDONLY); });
}

POSIX_CASE(Acls, ADefaultAclIsInheritedAndReplacesTheUmask) {
  place.make_directory("dir", 0777);
  set_acl(place, "dir", AclType::kDefault, "u::rwx,U:61002:rwx,g::rx,m::rwx,o::");
  note_acl(place, "dir", AclType::kDefault);
  Who who = alice();
  who.umask = 077;
  place.as(who, [](Place& p) {
    make_one_of_each(p, "dir");
    p.open("dir/narrow", O_WRONLY | O_CREAT, 0640);
    p.stat("dir/narrow");
    for (const char* name : {"dir/file", "dir/directory", "dir/narrow", "dir/fifo"}) {
      note_acl(p, name, AclType::kAccess);
    }
    note_acl(p, "dir/directory", AclType::kDefault);
    p.call("mkdir below", ::mkdirat(p.root(), "dir/directory/below", 0700));
    note_acl(p, "dir/directory/below", AclType::kAccess);
    note_acl(p, "dir/directory/below", AclType::kDefault);
  });
  place.as(bob(), [](Place& p) {
    p.open("dir/file", O_RDWR);
    p.open("dir/narrow", O_RDWR);
  });
  place.call("delete", ::removexattr((place / "dir").c_str(), "system.posix_acl_default"));
  place.as(who, [](Place& p) {
    p.open("dir/after", O_WRONLY | O_CREAT, 0666);
    p.stat("dir/after");
  });
}

POSIX_CASE(Acls, WrongOnesAreRefused) {
  place.make("file");
  set_acl(place, "file", AclType::kDefault, "u::rwx,g::rx,o::");
  const std::string path = place / "file";
  place.call("empty", ::setxattr(path.c_str(), "system.posix_acl_access", "", 0, 0));
  place.call("garbage", ::setxattr(path.c_str(), "system.posix_acl_access", "garbage", 7, 0));
  place.call("remove none", ::removexattr(path.c_str(), "system.posix_acl_access"));
  place.call("symlink", ::symlinkat("file", place.root(), "link"));
  place.call("of a link",
             ::lsetxattr((place / "link").c_str(), "system.posix_acl_access", "\2\0\0\0", 4, 0));
  char value[64];
  place.call("none there", ::getxattr(path.c_str(), "system.posix_acl_access", value, 64));
}

POSIX_CASE(Acls, SettingOneTakesTheSetgidBitFromAStranger) {
  place.make("file", "x", 02755);
  place.own("file", kAlice, kTeam);
  place.as(alice(), [](Place& p) {
    set_acl(p, "file", AclType::kAccess, "u::rwx,U:61002:r,g::rx,m::rx,o::rx");
    p.stat("file");
  });
  place.make("members", "x", 02755);
  place.own("members", kAlice, kTeam);
  place.as(alice_of_the_team(), [](Place& p) {
    set_acl(p, "members", AclType::kAccess, "u::rwx,U:61002:r,g::rx,m::rx,o::rx");
    p.stat("members");
  });
}

// ---- set-id bits ----

void each_set_id(Place& place, const std::function<void(Place&, const std::string&)>& change) {
  for (mode_t mode : {04755, 02755, 06755, 02745, 04644, 06777}) {
    for (int who = 0; who < 4; ++who) {
      const std::string name = "file" + std::to_string(mode) + "-" + std::to_string(who);
      place.make(name, std::string(8192, 'x'), mode);
      place.own(name, who == 1 ? kBob : kAlice, kTeam);
      place.call("chmod", ::fchmodat(place.root(), name.c_str(), mode | 0006, 0));
      auto body = [&](Place& p) {
        change(p, name);
        p.stat(name);
      };
      if (who == 3) {
        body(place);
      } else {
        place.as(who == 2 ? alice_of_the_team() : alice(), body);
      }
      place.stat(name);
    }
  }
}

POSIX_CASE(SetIdBits, Write) {
  each_set_id(place, [](Place& p, const std::string& name) {
    UniqueFd fd = p.open(name, O_RDWR);
    p.call("write", ::pwrite(fd.get(), "y", 1, 0));
    p.fstat("after the first", fd.get());
    p.call("write", ::pwrite(fd.get(), "z", 1, 1));
  });
}

POSIX_CASE(SetIdBits, AppendAndDirect) {
  each_set_id(place, [](Place& p, const std::string& name) {
    UniqueFd fd = p.open(name, O_RDWR | O_APPEND);
    p.call("append", ::write(fd.get(), "y", 1));
    p.stat(name);
  });
}

POSIX_CASE(SetIdBits, TruncateByDescriptor) {
  each_set_id(place, [](Place& p, const std::string& name) {
    UniqueFd fd = p.open(name, O_RDWR);
    p.call("ftruncate", ::ftruncate(fd.get(), 100));
  });
}

POSIX_CASE(SetIdBits, TruncateByPath) {
  each_set_id(place, [](Place& p, const std::string& name) {
    p.call("truncate", ::truncate((p / name).c_str(), 8192));
  });
}

POSIX_CASE(SetIdBits, OpenWithTruncation) {
  each_set_id(place, [](Place& p, const std::string& name) { p.open(name, O_WRONLY | O_TRUNC); });
}

POSIX_CASE(SetIdBits, Chown) {
  each_set_id(place, [](Place& p, const std::string& name) {
    p.call("chown", ::fchownat(p.root(), name.c_str(), kAlice, uid_t(-1), 0));
    p.stat(name);
    p.call("chgrp", ::fchownat(p.root(), name.c_str(), uid_t(-1), kTeam, 0));
  });
}

POSIX_CASE(SetIdBits, ChownToNobodyNew) {
  each_set_id(place, [](Place& p, const std::string& name) {
    const int result = ::fchownat(p.root(), name.c_str(), uid_t(-1), gid_t(-1), 0);
    // What a stranger is told is in limits_test.cc.
    struct stat st {};
    ::fstatat(p.root(), name.c_str(), &st, 0);
    if (::geteuid() == 0 || ::geteuid() == st.st_uid) p.call("chown", result);
  });
}

POSIX_CASE(SetIdBits, Fallocate) {
  each_set_id(place, [](Place& p, const std::string& name) {
    UniqueFd fd = p.open(name, O_RDWR);
    p.call("fallocate", ::fallocate(fd.get(), 0, 0, 16384));
  });
}

POSIX_CASE(SetIdBits, PunchHole) {
  each_set_id(place, [](Place& p, const std::string& name) {
    UniqueFd fd = p.open(name, O_RDWR);
    p.call("punch", ::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
  });
}

POSIX_CASE(SetIdBits, CopyFileRange) {
  place.make("source", std::string(4096, 's'));
  each_set_id(place, [](Place& p, const std::string& name) {
    UniqueFd from = p.open("source", O_RDONLY);
    UniqueFd to = p.open(name, O_RDWR);
    off_t in = 0, out = 0;
    p.call("copy", ::copy_file_range(from.get(), &in, to.get(), &out, 4096, 0));
  });
}

POSIX_CASE(SetIdBits, ReadAndTimesKeepThem) {
  each_set_id(place, [](Place& p, const std::string& name) {
    p.open(name, O_RDWR);
    const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    p.call("times", ::utimensat(p.root(), name.c_str(), now, 0));
    p.call("write nothing", [&] {
      UniqueFd fd(::openat(p.root(), name.c_str(), O_WRONLY));
      return ::write(fd.get(), "", 0);
    }());
  });
}

// Writing takes a file's capabilities away, too.
POSIX_CASE(SetIdBits, FileCapabilities) {
  const char value[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
  for (int who = 0; who < 2; ++who) {
    const std::string name = "file" + std::to_string(who);
    place.make(name, "x", 0777);
    place.call("set", ::setxattr((place / name).c_str(), "security.capability", value, 20, 0));
    place.xattrs(name);
    auto write = [&](Place& p) {
      UniqueFd fd = p.open(name, O_WRONLY);
      p.call("write", ::write(fd.get(), "y", 1));
    };
    if (who == 0) {
      write(place);
    } else {
      place.as(bob(), write);
    }
    place.xattrs(name);
    place.call("set", ::setxattr((place / name).c_str(), "security.capability", value, 20, 0));
    place.call("truncate", ::truncate((place / name).c_str(), 0));
    place.xattrs(name);
    place.call("set", ::setxattr((place / name).c_str(), "security.capability", value, 20, 0));
    place.call("chown", ::chown((place / name).c_str(), kBob, kBob));
    place.xattrs(name);
  }
}

}  // namespace
}  // namespace epochfs::testing
