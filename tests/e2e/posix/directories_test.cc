// What does a listing show, also while the directory changes?
#include <dirent.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"

namespace epochfs::testing {
namespace {

using Listing = PosixTest;
using LargeListing = PosixTest;

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

Directory open_directory_at(Place& p, const std::string& name) {
  const int fd = ::openat(p.root(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Directory dir(fd < 0 ? nullptr : ::fdopendir(fd), ::closedir);
  if (!dir) throw_errno("open directory " + name);
  return dir;
}

std::vector<std::string> rest_of(DIR* dir) {
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(dir)) names.push_back(entry->d_name);
  return names;
}

void make_files(Place& p, const std::string& dir, const std::string& prefix, int count) {
  UniqueFd at(::openat(p.root(), dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < count; ++i) {
    const std::string name = prefix + std::to_string(i);
    UniqueFd made(::openat(at.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!made) throw_errno("make " + name);
  }
}

POSIX_CASE(Listing, TypesAndDots) {
  place.make("file");
  place.make_directory("directory");
  place.call("symlink", ::symlinkat("x", place.root(), "symlink"));
  place.call("fifo", ::mkfifoat(place.root(), "fifo", 0644));
  place.call("device", ::mknodat(place.root(), "device", S_IFCHR, 0x103));
  place.call("socket", ::mknodat(place.root(), "socket", S_IFSOCK | 0644, 0));
  place.list(".");
  place.list("directory");
  struct stat above {
  }, root{};
  Directory dir = open_directory_at(place, "directory");
  ::fstat(place.root(), &root);
  while (dirent* entry = ::readdir(dir.get())) {
    if (std::strcmp(entry->d_name, "..") == 0) place.note("dot dot", entry->d_ino == root.st_ino);
  }
  ::fstatat(place.root(), "directory/..", &above, 0);
  place.note("stat of dot dot", above.st_ino == root.st_ino);
}

POSIX_CASE(Listing, ChangesAreSeenAtOnce) {
  for (int i = 0; i < 30; ++i) {
    place.make(fmt::format("file{}", i));
    if (i % 3 == 0)
      place.call("unlink", ::unlinkat(place.root(), fmt::format("file{}", i / 2).c_str(), 0));
    if (i % 5 == 0) {
      place.call("rename", ::renameat(place.root(), fmt::format("file{}", i).c_str(), place.root(),
                                      fmt::format("renamed{}", i).c_str()));
    }
    place.list(".");
  }
}

POSIX_CASE(Listing, RewindShowsWhatIsNew) {
  place.make_directory("dir");
  make_files(place, "dir", "before", 10);
  Directory dir = open_directory_at(place, "dir");
  place.note("entries", int64_t(rest_of(dir.get()).size()));
  make_files(place, "dir", "after", 10);
  ::rewinddir(dir.get());
  place.note("entries", int64_t(rest_of(dir.get()).size()));
  place.note("at the end", int64_t(rest_of(dir.get()).size()));
}

POSIX_CASE(Listing, EveryOffsetLeadsBack) {
  place.make_directory("dir");
  make_files(place, "dir", "file", 1000);
  Directory dir = open_directory_at(place, "dir");
  std::vector<std::pair<long, std::string>> seen;
  for (;;) {
    const long at = ::telldir(dir.get());
    dirent* entry = ::readdir(dir.get());
    if (!entry) break;
    seen.emplace_back(at, entry->d_name);
  }
  int64_t wrong = 0;
  for (size_t i = seen.size(); i-- > 0;) {
    ::seekdir(dir.get(), seen[i].first);
    dirent* entry = ::readdir(dir.get());
    if (!entry || seen[i].second != entry->d_name) ++wrong;
  }
  place.note("entries", int64_t(seen.size()));
  place.note("wrong", wrong);
  // In another open of the directory they mean the same.
  Directory other = open_directory_at(place, "dir");
  wrong = 0;
  for (size_t i = 0; i < seen.size(); i += 37) {
    ::seekdir(other.get(), seen[i].first);
    dirent* entry = ::readdir(other.get());
    if (!entry || seen[i].second != entry->d_name) ++wrong;
  }
  place.note("wrong", wrong);
}

POSIX_CASE(Listing, RemovedWhileListed) {
  place.make_directory("dir");
  make_files(place, "dir", "file", 500);
  Directory dir = open_directory_at(place, "dir");
  int64_t removed = 0;
  // As rm -r does it.
  while (dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') removed += ::unlinkat(::dirfd(dir.get()), entry->d_name, 0) == 0;
  }
  place.note("removed", removed);
  place.call("rmdir", ::unlinkat(place.root(), "dir", AT_REMOVEDIR));
  ::rewinddir(dir.get());
  place.note("entries of a removed one", int64_t(rest_of(dir.get()).size()));
}

POSIX_CASE(Listing, SmallBuffersAndWrongOnes) {
  place.make_directory("dir");
  make_files(place, "dir", std::string(200, 'n'), 50);
  UniqueFd fd = place.open("dir", O_RDONLY | O_DIRECTORY);
  char buffer[512];
  place.call("too small", ::syscall(SYS_getdents64, fd.get(), buffer, 20));
  int64_t entries = 0;
  for (long n; (n = ::syscall(SYS_getdents64, fd.get(), buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < n;) {
      auto* entry = reinterpret_cast<dirent64*>(buffer + at);
      ++entries;
      at += entry->d_reclen;
    }
  }
  place.note("entries", entries);
  place.make("file");
  UniqueFd file = place.open("file", O_RDONLY);
  place.call("of a file", ::syscall(SYS_getdents64, file.get(), buffer, sizeof buffer));
}

// Names that are there all the time show exactly once, however much others come and go.
POSIX_CASE(LargeListing, StableWhileOthersComeAndGo) {
  constexpr int kStable = 100'000;
  place.make_directory("dir");
  make_files(place, "dir", "stable", kStable);
  const pid_t churn = ::fork();
  if (churn < 0) throw_errno("fork");
  if (churn == 0) {
    UniqueFd dir(::openat(place.root(), "dir", O_RDONLY | O_DIRECTORY));
    for (unsigned i = 0;; ++i) {
      const std::string name = "churn" + std::to_string(i % 5000);
      if (i / 5000 % 2 == 0) {
        ::close(::openat(dir.get(), name.c_str(), O_WRONLY | O_CREAT, 0644));
      } else {
        ::unlinkat(dir.get(), name.c_str(), 0);
      }
    }
  }
  for (int round = 0; round < 2; ++round) {
    Directory dir = open_directory_at(place, "dir");
    std::vector<uint8_t> seen(kStable);
    std::map<long, std::string> marks;
    int64_t others = 0, wrong = 0;
    for (long n = 0;; ++n) {
      const long at = n % 1000 == 0 ? ::telldir(dir.get()) : -1;
      dirent* entry = ::readdir(dir.get());
      if (!entry) break;
      int number = -1;
      if (std::sscanf(entry->d_name, "stable%d", &number) == 1) {
        ++seen[size_t(number)];
        if (at >= 0) marks[at] = entry->d_name;
      } else {
        ++others;
      }
    }
    place.note("seen once", std::count(seen.begin(), seen.end(), 1));
    for (const auto& [at, name] : marks) {
      ::seekdir(dir.get(), at);
      dirent* entry = ::readdir(dir.get());
      // Something new may have come in between.
      for (int i = 0; entry && name != entry->d_name && i < 100; ++i) entry = ::readdir(dir.get());
      if (!entry || name != entry->d_name) ++wrong;
    }
    place.note("marks that lead elsewhere", wrong);
  }
  ::kill(churn, SIGKILL);
  ::waitpid(churn, nullptr, 0);
}

}  // namespace
}  // namespace epochfs::testing
