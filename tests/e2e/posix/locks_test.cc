// Do locks exclude each other, and go away, as they do in the directory beneath?
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tests/e2e/posix/posix.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

using Flock = PosixTest;
using PosixLocks = PosixTest;
using OfdLocks = PosixTest;
using Leases = PosixTest;

struct flock range(short type, off_t start, off_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

int64_t try_lock(Place& p, int fd, int command, short type, off_t start, off_t length) {
  struct flock lock = range(type, start, length);
  return p.call(fmt::format("lock {} type {} at {}+{}", command, type, start, length),
                ::fcntl(fd, command, &lock));
}

void note_holder(Place& p, int fd, int command, short type, off_t start, off_t length,
                 pid_t other) {
  struct flock lock = range(type, start, length);
  if (p.call("ask", ::fcntl(fd, command, &lock)) != 0) return;
  p.note("holder", fmt::format("type {} at {}+{} of {}", lock.l_type, lock.l_start, lock.l_len,
                               lock.l_pid == other ? "the other" : std::to_string(lock.l_pid)));
}

// Returns when the process waits for a lock, as "/proc/locks" shows by an arrow.
void wait_until_blocked(pid_t pid) {
  eventually("the process waits for a lock", [&] {
    std::ifstream in("/proc/locks");
    for (std::string line; std::getline(in, line);) {
      if (line.find("->") != std::string::npos &&
          line.find(" " + std::to_string(pid) + " ") != std::string::npos) {
        return true;
      }
    }
    return false;
  });
}

POSIX_CASE(Flock, SharedAndExclusive) {
  place.make("file");
  UniqueFd a = place.open("file", O_RDONLY), b = place.open("file", O_RDONLY);
  for (int first : {LOCK_SH, LOCK_EX}) {
    for (int second : {LOCK_SH, LOCK_EX}) {
      place.call("first", ::flock(a.get(), first | LOCK_NB));
      place.call("second", ::flock(b.get(), second | LOCK_NB));
      place.call("upgrade", ::flock(a.get(), LOCK_EX | LOCK_NB));
      place.call("unlock", ::flock(a.get(), LOCK_UN));
      place.call("unlock", ::flock(b.get(), LOCK_UN));
    }
  }
  UniqueFd dir = place.open(".", O_RDONLY);
  place.call("of a directory", ::flock(dir.get(), LOCK_EX | LOCK_NB));
  UniqueFd path = place.open("file", O_PATH);
  place.call("of O_PATH", ::flock(path.get(), LOCK_EX | LOCK_NB));
}

POSIX_CASE(Flock, BelongsToTheOpenFile) {
  place.make("file");
  UniqueFd fd = place.open("file", O_RDWR);
  place.call("lock", ::flock(fd.get(), LOCK_EX));
  place.in_child([&](Place& p) {
    p.call("inherited", ::flock(fd.get(), LOCK_EX | LOCK_NB));
    UniqueFd own = p.open("file", O_RDWR);
    p.call("own", ::flock(own.get(), LOCK_EX | LOCK_NB));
  });
  UniqueFd copy(::dup(fd.get()));
  fd.reset();
  UniqueFd other = place.open("file", O_RDWR);
  place.call("while a copy is open", ::flock(other.get(), LOCK_EX | LOCK_NB));
  copy.reset();
  place.call("after the last close", ::flock(other.get(), LOCK_EX | LOCK_NB));
}

POSIX_CASE(Flock, AcrossProcesses) {
  place.make("file");
  Beside other(place, [](Place& p, Turns& turns) {
    UniqueFd fd = p.open("file", O_RDWR);
    turns.wait();
    p.call("try", ::flock(fd.get(), LOCK_EX | LOCK_NB));
    turns.pass();
    p.call("wait for it", ::flock(fd.get(), LOCK_EX));
    turns.pass();
    turns.wait();
  });
  UniqueFd fd = place.open("file", O_RDWR);
  place.call("lock", ::flock(fd.get(), LOCK_EX));
  other.turn();
  wait_until_blocked(other.pid());
  place.call("unlock", ::flock(fd.get(), LOCK_UN));
  other.wait();
  place.call("try", ::flock(fd.get(), LOCK_EX | LOCK_NB));
  other.pass();
  other.finish();
  place.call("after its end", ::flock(fd.get(), LOCK_EX | LOCK_NB));
}

POSIX_CASE(PosixLocks, RangesAcrossProcesses) {
  place.make("file", std::string(100, 'x'));
  Beside other(place, [](Place& p, Turns& turns) {
    UniqueFd fd = p.open("file", O_RDWR);
    turns.wait();
    try_lock(p, fd.get(), F_SETLK, F_WRLCK, 10, 10);
    try_lock(p, fd.get(), F_SETLK, F_RDLCK, 50, 0);
    turns.pass();
    turns.wait();
    try_lock(p, fd.get(), F_SETLK, F_UNLCK, 12, 2);
    turns.pass();
    turns.wait();
  });
  UniqueFd fd = place.open("file", O_RDWR);
  other.turn();
  for (auto [start, length] :
       {std::pair<off_t, off_t>{0, 10}, {0, 11}, {12, 2}, {19, 1}, {20, 30}, {50, 1}, {1000, 1}}) {
    note_holder(place, fd.get(), F_GETLK, F_WRLCK, start, length, other.pid());
    try_lock(place, fd.get(), F_SETLK, F_RDLCK, start, length);
    try_lock(place, fd.get(), F_SETLK, F_WRLCK, start, length);
  }
  other.turn();
  try_lock(place, fd.get(), F_SETLK, F_WRLCK, 12, 2);
  try_lock(place, fd.get(), F_SETLK, F_WRLCK, 12, 3);
  other.pass();
  other.finish();
  try_lock(place, fd.get(), F_SETLK, F_WRLCK, 0, 0);
}

POSIX_CASE(PosixLocks, GoWithAnyCloseOfTheFile) {
  place.make("file", "x");
  Beside other(place, [](Place& p, Turns& turns) {
    UniqueFd fd = p.open("file", O_RDWR);
    for (int i = 0; i < 2; ++i) {
      turns.wait();
      struct flock lock = range(F_WRLCK, 0, 0);
      p.call("try", ::fcntl(fd.get(), F_SETLK, &lock));
      turns.pass();
    }
  });
  UniqueFd fd = place.open("file", O_RDWR);
  try_lock(place, fd.get(), F_SETLK, F_WRLCK, 0, 0);
  other.turn();
  place.open("file", O_RDONLY);  // and closed again
  other.turn();
  other.finish();
}

POSIX_CASE(PosixLocks, WaitAndDeadlock) {
  place.make("file", "x");
  Beside other(place, [](Place& p, Turns& turns) {
    UniqueFd fd = p.open("file", O_RDWR);
    turns.wait();
    try_lock(p, fd.get(), F_SETLK, F_WRLCK, 1, 1);
    turns.pass();
    try_lock(p, fd.get(), F_SETLKW, F_WRLCK, 0, 1);
    turns.pass();
  });
  UniqueFd fd = place.open("file", O_RDWR);
  try_lock(place, fd.get(), F_SETLK, F_WRLCK, 0, 1);
  other.turn();
  wait_until_blocked(other.pid());
  try_lock(place, fd.get(), F_SETLKW, F_WRLCK, 1, 1);  // EDEADLK
  try_lock(place, fd.get(), F_SETLK, F_UNLCK, 0, 1);
  other.wait();
  other.finish();
}

POSIX_CASE(PosixLocks, NeedAccess) {
  place.make("file", "x");
  UniqueFd reader = place.open("file", O_RDONLY), writer = place.open("file", O_WRONLY);
  try_lock(place, reader.get(), F_SETLK, F_WRLCK, 0, 0);
  try_lock(place, writer.get(), F_SETLK, F_RDLCK, 0, 0);
  try_lock(place, reader.get(), F_SETLK, F_RDLCK, -1, 1);
  try_lock(place, reader.get(), F_SETLK, 99, 0, 1);
  place.call("lockf", ::lockf(writer.get(), F_TLOCK, 10));
  place.call("lockf test", ::lockf(writer.get(), F_TEST, 10));
}

POSIX_CASE(OfdLocks, BelongToTheOpenFile) {
  place.make("file", "x");
  UniqueFd a = place.open("file", O_RDWR), b = place.open("file", O_RDWR);
  try_lock(place, a.get(), F_OFD_SETLK, F_WRLCK, 0, 10);
  try_lock(place, b.get(), F_OFD_SETLK, F_RDLCK, 5, 10);
  note_holder(place, b.get(), F_OFD_GETLK, F_WRLCK, 0, 0, -2);
  try_lock(place, b.get(), F_SETLK, F_WRLCK, 5, 1);  // conflicts with traditional ones too
  place.open("file", O_RDONLY);
  try_lock(place, b.get(), F_OFD_SETLK, F_RDLCK, 5, 10);
  UniqueFd copy(::dup(a.get()));
  a.reset();
  try_lock(place, b.get(), F_OFD_SETLK, F_RDLCK, 5, 10);
  copy.reset();
  try_lock(place, b.get(), F_OFD_SETLK, F_RDLCK, 5, 10);
}

POSIX_CASE(OfdLocks, AcrossProcesses) {
  place.make("file", "x");
  UniqueFd fd = place.open("file", O_RDWR);
  try_lock(place, fd.get(), F_OFD_SETLK, F_WRLCK, 0, 0);
  Beside other(place, [](Place& p, Turns& turns) {
    UniqueFd own = p.open("file", O_RDWR);
    turns.wait();
    try_lock(p, own.get(), F_OFD_SETLK, F_RDLCK, 0, 1);
    turns.pass();
    try_lock(p, own.get(), F_OFD_SETLKW, F_RDLCK, 0, 1);
    turns.pass();
  });
  other.turn();
  // An OFD lock has no process in /proc/locks: unlocking is what the other waits for.
  try_lock(place, fd.get(), F_OFD_SETLK, F_UNLCK, 0, 0);
  other.wait();
  other.finish();
}

POSIX_CASE(Leases, ReadAndWrite) {
  place.make("file", "x");
  UniqueFd reader = place.open("file", O_RDONLY);
  place.call("read lease", ::fcntl(reader.get(), F_SETLEASE, F_RDLCK));
  place.call("lease", ::fcntl(reader.get(), F_GETLEASE));
  place.call("none", ::fcntl(reader.get(), F_SETLEASE, F_UNLCK));
  UniqueFd writer = place.open("file", O_RDWR);
  place.call("read lease of a written file", ::fcntl(reader.get(), F_SETLEASE, F_RDLCK));
  place.call("write lease", ::fcntl(writer.get(), F_SETLEASE, F_WRLCK));
  reader.reset();
  place.call("write lease alone", ::fcntl(writer.get(), F_SETLEASE, F_WRLCK));
  place.call("lease", ::fcntl(writer.get(), F_GETLEASE));
}

}  // namespace
}  // namespace epochfs::testing
