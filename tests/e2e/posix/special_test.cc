// FIFOs, sockets and devices; and uses of plain files other than reading and writing: running
// them, watching them, ioctls.
#include <fmt/format.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <filesystem>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

using Fifos = PosixTest;
using Sockets = PosixTest;
using Devices = PosixTest;
using Programs = PosixTest;
using Watches = PosixTest;
using Controls = PosixTest;
using WorkingDirectory = PosixTest;
using Handles = PosixTest;

POSIX_CASE(Fifos, CarryBytes) {
  place.call("mkfifo", ::mkfifoat(place.root(), "fifo", 0622));
  place.stat("fifo");
  place.open("fifo", O_WRONLY | O_NONBLOCK);  // ENXIO: nobody reads
  Beside reader(place, [](Place& p, Turns& turns) {
    turns.wait();
    UniqueFd fd = p.open("fifo", O_RDONLY);  // until somebody writes
    turns.wait();
    char bytes[100];
    const ssize_t n = ::read(fd.get(), bytes, sizeof bytes);
    p.note("read", std::string_view(bytes, size_t(std::max<ssize_t>(n, 0))));
    p.call("end", ::read(fd.get(), bytes, sizeof bytes));
  });
  reader.pass();
  UniqueFd writer = place.open("fifo", O_WRONLY);
  place.call("write", ::write(writer.get(), "through the fifo", 16));
  place.call("lseek", ::lseek(writer.get(), 0, SEEK_SET));
  place.fstat("fifo", writer.get());
  writer.reset();
  reader.pass();
  reader.finish();
  place.as(alice(), [](Place& p) { p.open("fifo", O_RDWR | O_NONBLOCK); });
  place.call("unlink", ::unlinkat(place.root(), "fifo", 0));
}

// The path of a socket's address is short, so it is reached through the directory.
sockaddr_un address(Place& p, const std::string& name) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  std::snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", p.root(), name.c_str());
  return a;
}

POSIX_CASE(Sockets, BindConnectAndTalk) {
  const sockaddr_un at = address(place, "socket");
  const auto* name = reinterpret_cast<const sockaddr*>(&at);
  UniqueFd server(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  place.call("bind", ::bind(server.get(), name, sizeof at));
  place.stat("socket");
  UniqueFd second(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  place.call("bind again", ::bind(second.get(), name, sizeof at));
  place.call("connect to a deaf one", ::connect(second.get(), name, sizeof at));
  place.call("listen", ::listen(server.get(), 5));
  place.call("connect", ::connect(second.get(), name, sizeof at));
  UniqueFd accepted = place.opened("accept", ::accept4(server.get(), nullptr, nullptr, 0));
  place.call("send", ::send(second.get(), "hello", 5, 0));
  char bytes[10] = {};
  place.call("receive", ::recv(accepted.get(), bytes, sizeof bytes, 0));
  place.open("socket", O_RDWR);
  place.call("rename", ::renameat(place.root(), "socket", place.root(), "moved"));
  const sockaddr_un moved = address(place, "moved");
  UniqueFd third(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  place.call("old name", ::connect(third.get(), name, sizeof at));
  place.call("new name",
             ::connect(third.get(), reinterpret_cast<const sockaddr*>(&moved), sizeof moved));
  place.call("chmod", ::fchmodat(place.root(), "moved", 0700, 0));
  place.as(alice(), [&](Place& p) {
    UniqueFd stranger(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    p.call("connect",
           ::connect(stranger.get(), reinterpret_cast<const sockaddr*>(&moved), sizeof moved));
  });
  server.reset();
  UniqueFd late(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  place.call("after its end",
             ::connect(late.get(), reinterpret_cast<const sockaddr*>(&moved), sizeof moved));
}

POSIX_CASE(Sockets, Datagrams) {
  const sockaddr_un at = address(place, "datagrams");
  UniqueFd server(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  UniqueFd client(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  place.call("bind", ::bind(server.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at));
  place.call("send",
             ::sendto(client.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&at), sizeof at));
  char byte;
  place.call("receive", ::recv(server.get(), &byte, 1, MSG_DONTWAIT));
}

POSIX_CASE(Devices, WorkThroughTheirNodes) {
  place.call("null", ::mknodat(place.root(), "null", S_IFCHR | 0666, makedev(1, 3)));
  place.call("zero", ::mknodat(place.root(), "zero", S_IFCHR | 0666, makedev(1, 5)));
  place.call("full", ::mknodat(place.root(), "full", S_IFCHR | 0666, makedev(1, 7)));
  place.call("absent", ::mknodat(place.root(), "none", S_IFCHR | 0666, makedev(241, 77)));
  place.call("block", ::mknodat(place.root(), "block", S_IFBLK | 0600, makedev(259, 1'000'000)));
  for (const char* name : {"null", "zero", "full", "none", "block"}) {
    place.stat(name);
    UniqueFd fd = place.open(name, O_RDWR);
    if (!fd) continue;
    place.call("write", ::write(fd.get(), "x", 1));
    char bytes[4] = {'a', 'b', 'c', 'd'};
    place.call("read", ::read(fd.get(), bytes, 4));
    place.note("bytes", escape({bytes, 4}));
    place.note("tty", ::isatty(fd.get()));
  }
  place.as(alice(), [](Place& p) {
    p.call("mknod", ::mknodat(p.root(), "mine", S_IFCHR | 0666, makedev(1, 3)));
  });
  place.make_directory("open", 0777);
  place.as(alice(), [](Place& p) {
    p.call("device", ::mknodat(p.root(), "open/null", S_IFCHR | 0666, makedev(1, 3)));
    p.call("fifo", ::mknodat(p.root(), "open/fifo", S_IFIFO | 0666, 0));
    p.call("file", ::mknodat(p.root(), "open/file", S_IFREG | 0666, 0));
    p.call("whiteout", ::mknodat(p.root(), "open/whiteout", S_IFCHR, 0));
  });
  place.call("directory", ::mknodat(place.root(), "dir", S_IFDIR | 0755, 0));
  place.call("nothing known", ::mknodat(place.root(), "odd", 0x7000, 0));
  place.list(".");
}

// ---- programs ----

std::string output_of(const std::string& program) {
  const Outcome outcome = testing::run({.argv = {program}}, Milliseconds(10'000));
  return fmt::format("status {} says '{}'", outcome.status, outcome.out);
}

POSIX_CASE(Programs, RunFromHere) {
  std::filesystem::copy_file("/bin/true", place / "true");
  place.call("chmod", ::fchmodat(place.root(), "true", 0755, 0));
  place.note("true", output_of(place / "true"));
  place.make("script", "#!/bin/sh\necho from a script\n", 0755);
  place.note("script", output_of(place / "script"));
  place.make("plain", "#!/bin/sh\necho not reached\n", 0644);
  place.note("not executable", output_of(place / "plain"));
  place.make("interpreted", "#!" + (place / "script") + "\n", 0755);
  place.make("only-executable", "", 0111);
  place.as(alice(), [](Place& p) {
    p.call("access", ::faccessat(p.root(), "only-executable", X_OK, 0));
    p.open("only-executable", O_RDONLY);
    p.call("exec of a plain one", ::execl((p / "plain").c_str(), "plain", nullptr));
  });
}

POSIX_CASE(Programs, TextFileBusy) {
  std::filesystem::copy_file("/bin/sleep", place / "program");
  place.call("chmod", ::fchmodat(place.root(), "program", 0755, 0));
  {
    Background running({.argv = {place / "program", "1000"}});
    eventually("the program runs", [&] {
      std::error_code error;
      return std::filesystem::read_symlink(fmt::format("/proc/{}/exe", running.pid()), error)
                 .filename() == "program";
    });
    place.open("program", O_WRONLY);
    place.open("program", O_RDONLY);
    place.call("truncate", ::truncate((place / "program").c_str(), 0));
    place.call("rename", ::renameat(place.root(), "program", place.root(), "renamed"));
    place.open("renamed", O_RDWR);
    place.call("unlink", ::unlinkat(place.root(), "renamed", 0));
    place.note("goes on", running.running());
  }
  place.make("script", "#!/bin/sh\nexit 3\n", 0755);
  UniqueFd writer = place.open("script", O_WRONLY);
  place.note("while it is written", output_of(place / "script"));
  writer.reset();
  place.note("afterwards", output_of(place / "script"));
}

POSIX_CASE(Programs, SetUserIdTakesEffect) {
  std::filesystem::copy_file("/usr/bin/id", place / "id");
  place.own("id", kBob, kBob);
  place.call("chmod", ::fchmodat(place.root(), "id", 06755, 0));
  place.as(alice(), [](Place& p) {
    int ends[2];
    if (::pipe(ends) != 0) throw_errno("pipe");
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(ends[1], 1);
      ::execl((p / "id").c_str(), "id", "-u", nullptr);
      ::_exit(127);
    }
    ::waitpid(child, nullptr, 0);
    char text[100];
    const ssize_t n = ::read(ends[0], text, sizeof text);
    p.note("effective user", std::string_view(text, size_t(std::max<ssize_t>(n, 0))));
  });
}

// ---- watches ----

void note_events(Place& p, int inotify) {
  alignas(inotify_event) char buffer[65536];
  for (ssize_t n; (n = ::read(inotify, buffer, sizeof buffer)) > 0;) {
    for (char* at = buffer; at < buffer + n;) {
      auto* event = reinterpret_cast<inotify_event*>(at);
      p.note("event", fmt::format("{:x} '{}'", event->mask, event->len ? event->name : ""));
      at += sizeof *event + event->len;
    }
  }
}

POSIX_CASE(Watches, InotifyTellsAllThatHappensHere) {
  place.make_directory("dir");
  UniqueFd watch(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  place.call("watch", ::inotify_add_watch(watch.get(), (place / "dir").c_str(), IN_ALL_EVENTS));
  UniqueFd fd = place.open("dir/file", O_RDWR | O_CREAT);
  place.call("write", ::write(fd.get(), "x", 1));
  char byte;
  place.call("read", ::pread(fd.get(), &byte, 1, 0));
  place.call("fchmod", ::fchmod(fd.get(), 0600));
  place.call("ftruncate", ::ftruncate(fd.get(), 0));
  fd.reset();
  place.call("rename", ::renameat(place.root(), "dir/file", place.root(), "dir/renamed"));
  place.call("link", ::linkat(place.root(), "dir/renamed", place.root(), "dir/link", 0));
  place.call("out", ::renameat(place.root(), "dir/renamed", place.root(), "outside"));
  place.call("mkdir", ::mkdirat(place.root(), "dir/sub", 0755));
  place.call("rmdir", ::unlinkat(place.root(), "dir/sub", AT_REMOVEDIR));
  place.call("unlink", ::unlinkat(place.root(), "dir/link", 0));
  place.call("gone", ::unlinkat(place.root(), "dir", AT_REMOVEDIR));
  note_events(place, watch.get());
}

// ---- controls ----

POSIX_CASE(Controls, UnknownOnesAndTerminals) {
  place.make("file", "content");
  UniqueFd fd = place.open("file", O_RDWR);
  termios terminal;
  place.call("terminal", ::ioctl(fd.get(), TCGETS, &terminal));
  place.call("unknown", ::ioctl(fd.get(), 0x12345678, 0));
  int value = 0;
  place.call("bytes to read", ::ioctl(fd.get(), FIONREAD, &value));
  place.note("bytes", value);
  place.call("close on exec", ::ioctl(fd.get(), FIOCLEX));
  place.call("flags", ::fcntl(fd.get(), F_GETFD));
  value = 1;
  place.call("non-blocking", ::ioctl(fd.get(), FIONBIO, &value));
  place.call("flags", ::fcntl(fd.get(), F_GETFL));
  place.call("block size", ::ioctl(fd.get(), FIGETBSZ, &value));
  place.note("size", value);
}

// ---- the working directory and the root ----

POSIX_CASE(WorkingDirectory, Chroot) {
  place.make_directory("jail");
  place.make_directory("jail/sub");
  place.make("jail/file", "in the jail");
  place.call("symlink", ::symlinkat("/file", place.root(), "jail/absolute"));
  place.in_child([](Place& p) {
    p.call("chroot", ::chroot((p / "jail").c_str()));
    p.call("chdir", ::chdir("/"));
    UniqueFd fd = p.opened("absolute link", ::open("/absolute", O_RDONLY));
    p.read_fd("absolute link", fd.get(), 0, 100);
    char path[PATH_MAX];
    p.note("getcwd", ::getcwd(path, sizeof path) ? path : name_of_errno(errno));
    p.call("above", ::chdir("../../.."));
    p.opened("file", ::open("file", O_RDONLY));
    p.opened("create", ::open("/sub/new", O_WRONLY | O_CREAT, 0644));
  });
  place.list("jail/sub");
}

POSIX_CASE(WorkingDirectory, Removed) {
  place.make_directory("dir");
  place.in_child([](Place& p) {
    p.call("chdir", ::chdir((p / "dir").c_str()));
    p.call("rmdir", ::unlinkat(p.root(), "dir", AT_REMOVEDIR));
    char path[PATH_MAX];
    p.call("getcwd", ::getcwd(path, sizeof path) ? 0 : -1);
    struct stat st;
    p.call("stat .", ::stat(".", &st));
    p.note("links", int64_t(st.st_nlink));
    p.call("create", ::open("x", O_WRONLY | O_CREAT, 0644));
    p.call("made again", ::mkdirat(p.root(), "dir", 0755));
    p.call("still", ::open("x", O_WRONLY | O_CREAT, 0644));
    p.call("above", ::chdir(".."));
    p.list("dir");
  });
}

// ---- file handles ----

POSIX_CASE(Handles, OpenWhatTheyWereMadeOf) {
  place.make("file", "content");
  alignas(file_handle) char memory[sizeof(file_handle) + MAX_HANDLE_SZ];
  auto* handle = reinterpret_cast<file_handle*>(memory);
  handle->handle_bytes = 0;
  int mount = 0;
  place.call("size probe", ::name_to_handle_at(place.root(), "file", handle, &mount, 0));
  handle->handle_bytes = MAX_HANDLE_SZ;
  place.call("handle", ::name_to_handle_at(place.root(), "file", handle, &mount, 0));
  UniqueFd fd = place.opened("open", ::open_by_handle_at(place.root(), handle, O_RDWR));
  place.read_fd("by handle", fd.get(), 0, 100);
  place.call("rename", ::renameat(place.root(), "file", place.root(), "moved"));
  fd = place.opened("open", ::open_by_handle_at(place.root(), handle, O_RDWR));
  place.call("write", ::write(fd.get(), "C", 1));
  place.read("moved");
  fd.reset();
  place.call("unlink", ::unlinkat(place.root(), "moved", 0));
  // The close before may still be on its way.
  eventually("the file is gone", [&] {
    return !UniqueFd(::open_by_handle_at(place.root(), handle, O_RDWR)) && errno == ESTALE;
  });
}

}  // namespace
}  // namespace epochfs::testing
