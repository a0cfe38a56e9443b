// What is in a file: reading, writing, mapping, holes, copies.
#include <fmt/format.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"

namespace epochfs::testing {
namespace {

using ReadWrite = PosixTest;
using Append = PosixTest;
using Direct = PosixTest;
using Mapping = PosixTest;
using Allocate = PosixTest;
using Holes = PosixTest;
using Copy = PosixTest;
using Large = PosixTest;

constexpr size_t kPage = 4096;

// ---- read and write ----

POSIX_CASE(ReadWrite, AnyOffsetAndLength) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
  std::string bytes;
  for (int i = 0; bytes.size() < 300'000; ++i) bytes += std::to_string(i) + " ";
  for (auto [offset, size] : {std::pair<off_t, size_t>{0, 0},
                              {0, 1},
                              {1, 4095},
                              {4095, 2},
                              {5000, 131072},
                              {131071, 131074},
                              {0, 300'000},
                              {1 << 20, 7},
                              {(1 << 20) - 3, 100}}) {
    place.call("write", ::pwrite(fd.get(), bytes.data(), size, offset));
    place.fstat("file", fd.get());
    place.read("file");
  }
  char byte;
  place.call("read at the end", ::pread(fd.get(), &byte, 1, (1 << 20) + 97));
  place.call("read behind the end", ::pread(fd.get(), &byte, 1, 1 << 30));
  place.call("read at -1", ::pread(fd.get(), &byte, 1, -1));
  place.call("write at -1", ::pwrite(fd.get(), &byte, 1, -1));
  place.call("lseek to -1", ::lseek(fd.get(), -1, SEEK_SET));
  place.call("lseek to end", ::lseek(fd.get(), 0, SEEK_END));
  place.call("lseek behind", ::lseek(fd.get(), 10, SEEK_CUR));
  place.call("write", ::write(fd.get(), "x", 1));
  place.fstat("file", fd.get());
}

POSIX_CASE(ReadWrite, Vectors) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
  std::string one(5000, '1'), two(1, '2'), three(70'000, '3');
  iovec parts[] = {
      {one.data(), one.size()}, {two.data(), two.size()}, {three.data(), three.size()}};
  place.call("writev", ::writev(fd.get(), parts, 3));
  place.call("pwritev", ::pwritev(fd.get(), parts, 3, 100'000));
  place.call("pwritev2 append", ::pwritev2(fd.get(), parts, 2, 0, RWF_APPEND));
  place.call("pwritev2 dsync", ::pwritev2(fd.get(), parts, 2, 3, RWF_DSYNC));
  place.call("preadv", ::preadv(fd.get(), parts, 3, 1));
  place.note("first", one.substr(0, 10));
  place.read("file");
}

POSIX_CASE(ReadWrite, TwoDescriptorsSeeEachOther) {
  UniqueFd a = place.open("file", O_RDWR | O_CREAT);
  UniqueFd b = place.open("file", O_RDWR);
  for (int i = 0; i < 20; ++i) {
    place.call("write", ::pwrite(a.get(), "abcdefgh", 8, i * 1000));
    place.read_fd("other", b.get(), i * 1000 - 5, 20);
    place.call("truncate", ::ftruncate(b.get(), i * 1000 + 4));
    place.read_fd("first", a.get(), i * 1000, 20);
    place.fstat("first", a.get());
  }
}

POSIX_CASE(ReadWrite, TruncateAndExtendShowsZeros) {
  place.make("file", std::string(10'000, 'x'));
  for (off_t size : {5000, 9000, 4096, 4097, 0, 1, 8192, 100'000}) {
    place.call("truncate", ::truncate((place / "file").c_str(), size));
    place.read("file");
    place.stat("file");
  }
  UniqueFd fd = place.open("file", O_RDONLY);
  place.call("ftruncate of a read-only one", ::ftruncate(fd.get(), 1));
  place.call("negative", ::truncate((place / "file").c_str(), -1));
  place.make_directory("dir");
  place.call("directory", ::truncate((place / "dir").c_str(), 0));
  place.call("absent", ::truncate((place / "absent").c_str(), 0));
}

POSIX_CASE(ReadWrite, FileSizeLimit) {
  place.in_child([](Place& p) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10'000, 10'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    UniqueFd fd = p.open("file", O_RDWR | O_CREAT);
    const std::string bytes(20'000, 'x');
    p.call("write over it", ::pwrite(fd.get(), bytes.data(), bytes.size(), 0));
    p.call("write behind it", ::pwrite(fd.get(), "x", 1, 10'000));
    p.call("truncate behind it", ::ftruncate(fd.get(), 10'001));
    p.call("allocate behind it", ::fallocate(fd.get(), 0, 0, 20'000));
    p.fstat("file", fd.get());
  });
  place.in_child([](Place& p) {
    const rlimit limit{10, 10};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    UniqueFd fd = p.open("killed", O_RDWR | O_CREAT);
    p.call("write", ::pwrite(fd.get(), "x", 1, 10));
  });
}

POSIX_CASE(ReadWrite, SynchronousOnes) {
  for (int flags : {O_SYNC, O_DSYNC}) {
    UniqueFd fd = place.open("file", O_RDWR | O_CREAT | flags);
    place.call("write", ::write(fd.get(), "content", 7));
    place.call("fsync", ::fsync(fd.get()));
    place.call("fdatasync", ::fdatasync(fd.get()));
    place.call("sync_file_range", ::sync_file_range(fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE));
    place.call("syncfs", ::syncfs(fd.get()));
  }
  UniqueFd dir = place.open(".", O_RDONLY | O_DIRECTORY);
  place.call("fsync of a directory", ::fsync(dir.get()));
  place.call("fdatasync of a directory", ::fdatasync(dir.get()));
  UniqueFd read_only = place.open("file", O_RDONLY);
  place.call("fsync of a read-only one", ::fsync(read_only.get()));
}

POSIX_CASE(ReadWrite, SpliceAndSendfile) {
  place.make("from", std::string(200'000, 'f'));
  UniqueFd from = place.open("from", O_RDONLY);
  UniqueFd to = place.open("to", O_RDWR | O_CREAT);
  off_t offset = 10;
  place.call("sendfile", ::sendfile(to.get(), from.get(), &offset, 100'000));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("pipe");
  UniqueFd read(ends[0]), write(ends[1]);
  off_t in = 0, out = 50;
  place.call("into the pipe", ::splice(from.get(), &in, write.get(), nullptr, 10'000, 0));
  place.call("out of it", ::splice(read.get(), nullptr, to.get(), &out, 10'000, 0));
  place.read("to");
}

POSIX_CASE(ReadWrite, Advice) {
  place.make("file", std::string(100'000, 'x'));
  UniqueFd fd = place.open("file", O_RDWR);
  for (int advice : {POSIX_FADV_NORMAL, POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM,
                     POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE, 99}) {
    errno = ::posix_fadvise(fd.get(), 0, 0, advice);
    place.note("fadvise", errno);
  }
  place.call("readahead", ::readahead(fd.get(), 0, 50'000));
  place.read("file");
}

// ---- append ----

// Lines of eight processes: none is lost, none is torn.
POSIX_CASE(Append, ManyProcesses) {
  constexpr int kProcesses = 8, kLines = 400;
  place.make("log");
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = ::fork();
    if (child < 0) throw_errno("fork");
    if (child == 0) {
      int fd = ::open((place / "log").c_str(), O_WRONLY | O_APPEND);
      for (int n = 0; n < kLines; ++n) {
        const std::string line = fmt::format("{} {:>5} {}\n", i, n, std::string(n % 60, 'x'));
        if (::write(fd, line.data(), line.size()) != ssize_t(line.size())) ::_exit(1);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    place.note("child", status);
  }
  place.stat("log");
  std::string all(1 << 20, '\0');
  UniqueFd fd = place.open("log", O_RDONLY);
  all.resize(size_t(std::max<ssize_t>(0, ::read(fd.get(), all.data(), all.size()))));
  std::vector<int> next(kProcesses);
  int64_t wrong = 0;
  for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
    int who = -1, n = -1;
    std::sscanf(all.c_str() + begin, "%d %d", &who, &n);
    if (who < 0 || who >= kProcesses || next[size_t(who)]++ != n) ++wrong;
  }
  place.note("lines out of order or torn", wrong);
  for (int n : next) place.note("lines of one", n);
}

POSIX_CASE(Append, IgnoresThePosition) {
  place.make("file", "start ");
  UniqueFd fd = place.open("file", O_RDWR | O_APPEND);
  place.call("write", ::write(fd.get(), "one ", 4));
  place.call("lseek", ::lseek(fd.get(), 0, SEEK_SET));
  place.call("write", ::write(fd.get(), "two ", 4));
  place.call("position", ::lseek(fd.get(), 0, SEEK_CUR));
  place.call("pwrite", ::pwrite(fd.get(), "three", 5, 0));
  place.call("switch off", ::fcntl(fd.get(), F_SETFL, 0));
  place.call("pwrite", ::pwrite(fd.get(), "S", 1, 0));
  place.call("switch on", ::fcntl(fd.get(), F_SETFL, O_APPEND));
  place.call("pwrite", ::pwrite(fd.get(), "!", 1, 0));
  place.call("ftruncate", ::ftruncate(fd.get(), 5));
  place.call("write", ::write(fd.get(), "X", 1));
  place.read("file");
}

// ---- O_DIRECT ----

POSIX_CASE(Direct, AlignedReadsAndWrites) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT | O_DIRECT);
  UniqueFd cached = place.open("file", O_RDWR);
  void* memory = nullptr;
  if (::posix_memalign(&memory, kPage, 64 * kPage) != 0) throw Failure("no memory");
  std::unique_ptr<char, void (*)(void*)> buffer(static_cast<char*>(memory), std::free);
  std::memset(buffer.get(), 'd', 64 * kPage);
  place.call("write", ::pwrite(fd.get(), buffer.get(), 64 * kPage, 0));
  place.read_fd("cached", cached.get(), kPage - 5, 10);
  place.call("cached write", ::pwrite(cached.get(), "cached", 6, kPage));
  place.call("read", ::pread(fd.get(), buffer.get(), 2 * kPage, 0));
  place.note("seen by direct read", std::string_view(buffer.get() + kPage - 4, 12));
  place.call("at the end", ::pread(fd.get(), buffer.get(), 2 * kPage, 63 * kPage));
  place.call("behind it", ::pread(fd.get(), buffer.get(), kPage, 64 * kPage));
  place.call("extend", ::pwrite(fd.get(), buffer.get(), kPage, 100 * kPage));
  place.fstat("file", fd.get());
  place.read("file");
  place.call("switch off", ::fcntl(fd.get(), F_SETFL, 0));
  place.call("small write", ::pwrite(fd.get(), "x", 1, 7));
  place.call("switch on", ::fcntl(fd.get(), F_SETFL, O_DIRECT));
  place.read("file");
}

// ---- mappings ----

class Map {
 public:
  Map(Place& p, int fd, size_t size, int protection, int flags)
      : size_(size), at_(::mmap(nullptr, size, protection, flags, fd, 0)) {
    p.note("mmap", at_ == MAP_FAILED ? name_of_errno(errno) : "mapped");
  }
  ~Map() {
    if (at_ != MAP_FAILED) ::munmap(at_, size_);
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;
  explicit operator bool() const { return at_ != MAP_FAILED; }
  char* bytes() const { return static_cast<char*>(at_); }
  int sync(int flags) const { return ::msync(at_, size_, flags); }

 private:
  size_t size_;
  void* at_;
};

POSIX_CASE(Mapping, SharedIsCoherentWithReadAndWrite) {
  place.make("file", std::string(3 * kPage, 'a'));
  UniqueFd fd = place.open("file", O_RDWR);
  Map map(place, fd.get(), 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  if (!map) return;
  place.call("write", ::pwrite(fd.get(), "written", 7, 10));
  place.note("mapped", std::string_view(map.bytes() + 8, 12));
  std::memcpy(map.bytes() + kPage, "stored", 6);
  place.read_fd("stored", fd.get(), kPage - 2, 10);
  UniqueFd other = place.open("file", O_RDONLY);
  place.read_fd("stored, by another", other.get(), kPage - 2, 10);
  place.call("msync", map.sync(MS_SYNC));
  std::memcpy(map.bytes() + kPage + 100, "later", 5);
  place.call("msync async", map.sync(MS_ASYNC));
  place.call("fsync", ::fsync(fd.get()));
  place.read("file");
  Map second(place, other.get(), 3 * kPage, PROT_READ, MAP_SHARED);
  std::memcpy(map.bytes() + 50, "both", 4);
  place.note("second mapping", std::string_view(second.bytes() + 48, 8));
}

POSIX_CASE(Mapping, SharedBetweenProcesses) {
  place.make("file", std::string(kPage, '-'));
  UniqueFd fd = place.open("file", O_RDWR);
  Map map(place, fd.get(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  if (!map) return;
  Beside other(place, [](Place& p, Turns& turns) {
    turns.wait();
    UniqueFd own = p.open("file", O_RDWR);
    Map its(p, own.get(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
    p.note("sees", std::string_view(its.bytes(), 8));
    std::memcpy(its.bytes() + 8, "child", 5);
    turns.pass();
    turns.wait();
    p.note("sees", std::string_view(its.bytes(), 20));
  });
  std::memcpy(map.bytes(), "parent", 6);
  other.turn();
  place.note("sees", std::string_view(map.bytes(), 20));
  std::memcpy(map.bytes(), "PARENT", 6);
  other.pass();
  other.finish();
  place.read_fd("file", fd.get(), 0, 20);
}

POSIX_CASE(Mapping, PrivateStaysPrivate) {
  place.make("file", std::string(2 * kPage, 'a'));
  UniqueFd fd = place.open("file", O_RDONLY);
  Map map(place, fd.get(), 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  if (!map) return;
  std::memcpy(map.bytes(), "mine", 4);
  place.read_fd("file", fd.get(), 0, 10);
  UniqueFd writer = place.open("file", O_WRONLY);
  place.call("write", ::pwrite(writer.get(), "theirs", 6, kPage));
  place.note("untouched page", std::string_view(map.bytes() + kPage, 8));
  place.note("own page", std::string_view(map.bytes(), 8));
}

POSIX_CASE(Mapping, AccessOfTheDescriptor) {
  place.make("file", std::string(kPage, 'a'));
  for (int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
    UniqueFd fd = place.open("file", flags);
    Map(place, fd.get(), kPage, PROT_READ, MAP_SHARED);
    Map(place, fd.get(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
    Map(place, fd.get(), kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    Map(place, fd.get(), kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE);
  }
  UniqueFd dir = place.open(".", O_RDONLY);
  Map(place, dir.get(), kPage, PROT_READ, MAP_SHARED);
}

POSIX_CASE(Mapping, TruncatedUnderneath) {
  place.make("file", std::string(3 * kPage, 'a'));
  place.in_child([](Place& p) {
    UniqueFd fd = p.open("file", O_RDWR);
    Map map(p, fd.get(), 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
    map.bytes()[2 * kPage] = 'x';
    p.call("truncate", ::ftruncate(fd.get(), kPage + 10));
    p.note("rest of the last page", std::string_view(map.bytes() + kPage + 8, 8));
    p.call("extend", ::ftruncate(fd.get(), 3 * kPage));
    p.note("extended", std::string_view(map.bytes() + 2 * kPage, 4));
  });
  place.in_child([](Place& p) {
    UniqueFd fd = p.open("file", O_RDWR);
    Map map(p, fd.get(), 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
    p.call("truncate", ::ftruncate(fd.get(), 10));
    // The process dies here; the parent notes of what.
    volatile char byte = map.bytes()[2 * kPage];
    p.note("still there", byte);
  });
  place.stat("file");
}

POSIX_CASE(Mapping, BytesBehindTheEndAreNotWritten) {
  place.make("file", "short");
  UniqueFd fd = place.open("file", O_RDWR);
  {
    Map map(place, fd.get(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
    std::memcpy(map.bytes() + 5, "behind", 6);
    place.call("msync", map.sync(MS_SYNC));
  }
  place.stat("file");
  place.call("extend", ::ftruncate(fd.get(), 20));
  place.read_fd("file", fd.get(), 0, 5);
}

POSIX_CASE(Mapping, OutlivesDescriptorAndName) {
  place.make("file", std::string(kPage, 'a'));
  UniqueFd fd = place.open("file", O_RDWR);
  UniqueFd watch = place.open("file", O_RDONLY);
  Map map(place, fd.get(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  fd.reset();
  place.call("unlink", ::unlinkat(place.root(), "file", 0));
  std::memcpy(map.bytes(), "after", 5);
  place.call("msync", map.sync(MS_SYNC));
  place.read_fd("file", watch.get(), 0, 10);
}

POSIX_CASE(Mapping, WrittenPagesAreThereForTheNextReader) {
  for (int round = 0; round < 5; ++round) {
    UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
    place.call("extend", ::ftruncate(fd.get(), 100 * kPage));
    {
      Map map(place, fd.get(), 100 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
      for (int i = round; i < 100; i += 7) std::memset(map.bytes() + i * kPage, 'a' + round, 100);
    }
    fd.reset();
    place.read("file");
  }
}

// ---- fallocate ----

POSIX_CASE(Allocate, EachModeThatFuseKnows) {
  for (int mode :
       {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE}) {
    for (auto [offset, length] : {std::pair<off_t, off_t>{0, 4096},
                                  {100, 50},
                                  {4000, 10'000},
                                  {20'000, 4096},
                                  {0, 0},
                                  {-1, 10},
                                  {0, -1}}) {
      place.make("file", std::string(12'000, 'x'));
      UniqueFd fd = place.open("file", O_RDWR);
      place.call(fmt::format("fallocate {:x} {} {}", mode, offset, length),
                 ::fallocate(fd.get(), mode, offset, length));
      place.stat("file");
      place.read("file");
    }
  }
}

POSIX_CASE(Allocate, Refusals) {
  place.make("file", "x");
  UniqueFd fd = place.open("file", O_RDONLY);
  place.call("read-only", ::fallocate(fd.get(), 0, 0, 10));
  UniqueFd dir = place.open(".", O_RDONLY);
  place.call("directory", ::fallocate(dir.get(), 0, 0, 10));
  UniqueFd writer = place.open("file", O_WRONLY);
  place.call("unknown mode", ::fallocate(writer.get(), 0x4000, 0, 10));
  place.call("far", ::fallocate(writer.get(), 0, INT64_MAX - 10, 100));
  errno = ::posix_fallocate(writer.get(), 0, 100'000);
  place.note("posix_fallocate", errno);
  place.stat("file");
}

// ---- holes ----

void note_holes(Place& p, int fd) {
  struct stat st {};
  ::fstat(fd, &st);
  for (off_t at = 0; at < st.st_size;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) {
      p.note("no data from", at);
      break;
    }
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    p.note("data", fmt::format("{} to {}", data, hole));
    at = hole;
  }
}

POSIX_CASE(Holes, AreWhereTheyWereLeft) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
  for (off_t at : {1 << 20, 3 << 20, 5 << 20}) {
    place.call("write", ::pwrite(fd.get(), std::string(65536, 'x').data(), 65536, at));
  }
  place.call("fsync", ::fsync(fd.get()));
  note_holes(place, fd.get());
  place.call("punch", ::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                  (3 << 20) + 16384, 16384));
  note_holes(place, fd.get());
  place.call("truncate", ::ftruncate(fd.get(), 10 << 20));
  note_holes(place, fd.get());
  place.call("data behind the end", ::lseek(fd.get(), 10 << 20, SEEK_DATA));
  place.call("hole behind the end", ::lseek(fd.get(), 11 << 20, SEEK_HOLE));
  place.call("data at -1", ::lseek(fd.get(), -1, SEEK_DATA));
  place.call("hole in the last hole", ::lseek(fd.get(), 9 << 20, SEEK_HOLE));
  place.call("data in the last hole", ::lseek(fd.get(), 9 << 20, SEEK_DATA));
  place.call("position unchanged", ::lseek(fd.get(), 0, SEEK_CUR));
}

POSIX_CASE(Holes, OfMappedPages) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
  place.call("truncate", ::ftruncate(fd.get(), 1 << 20));
  Map map(place, fd.get(), 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED);
  std::memset(map.bytes() + (512 << 10), 'x', 65536);
  place.call("msync", map.sync(MS_SYNC));
  note_holes(place, fd.get());
}

POSIX_CASE(Holes, EmptyAndFull) {
  UniqueFd fd = place.open("empty", O_RDWR | O_CREAT);
  place.call("data", ::lseek(fd.get(), 0, SEEK_DATA));
  place.call("hole", ::lseek(fd.get(), 0, SEEK_HOLE));
  place.make("full", std::string(10'000, 'x'));
  fd = place.open("full", O_RDONLY);
  place.call("data", ::lseek(fd.get(), 5000, SEEK_DATA));
  place.call("hole", ::lseek(fd.get(), 5000, SEEK_HOLE));
  fd = place.open(".", O_RDONLY);
  place.call("whence", ::lseek(fd.get(), 0, 99));
}

// ---- copy_file_range ----

POSIX_CASE(Copy, BetweenFiles) {
  place.make("from", std::string(300'000, 'f'));
  place.make("to", std::string(1000, 't'));
  UniqueFd from = place.open("from", O_RDONLY), to = place.open("to", O_RDWR);
  for (auto [in, out, size] : {std::tuple<off_t, off_t, size_t>{0, 0, 10},
                               {5, 500, 100'000},
                               {299'990, 0, 100},
                               {300'000, 0, 10},
                               {400'000, 0, 10},
                               {0, 1 << 20, 4096},
                               {0, 0, 0}}) {
    off_t a = in, b = out;
    place.call("copy", ::copy_file_range(from.get(), &a, to.get(), &b, size, 0));
    place.note("offsets", fmt::format("{} {}", a, b));
    place.stat("to");
  }
  place.read("to");
  place.call("by position", ::copy_file_range(from.get(), nullptr, to.get(), nullptr, 4096, 0));
  place.call("position", ::lseek(from.get(), 0, SEEK_CUR));
  place.call("position", ::lseek(to.get(), 0, SEEK_CUR));
  place.call("flags", ::copy_file_range(from.get(), nullptr, to.get(), nullptr, 1, 1));
  off_t negative = -5;
  place.call("negative", ::copy_file_range(from.get(), &negative, to.get(), nullptr, 1, 0));
  place.call("from a write-only one", [&] {
    UniqueFd write_only(::openat(place.root(), "to", O_WRONLY));
    return ::copy_file_range(write_only.get(), nullptr, to.get(), nullptr, 1, 0);
  }());
  place.call("to a read-only one", ::copy_file_range(to.get(), nullptr, from.get(), nullptr, 1, 0));
  UniqueFd append = place.open("to", O_WRONLY | O_APPEND);
  place.call("to an appending one",
             ::copy_file_range(from.get(), nullptr, append.get(), nullptr, 1, 0));
}

POSIX_CASE(Copy, WithinAFile) {
  place.make("file", "0123456789" + std::string(10'000, 'x'));
  UniqueFd fd = place.open("file", O_RDWR);
  off_t in = 0, out = 5000;
  place.call("apart", ::copy_file_range(fd.get(), &in, fd.get(), &out, 1000, 0));
  in = 0;
  out = 5;
  place.call("overlapping", ::copy_file_range(fd.get(), &in, fd.get(), &out, 10, 0));
  place.read("file");
}

POSIX_CASE(Copy, SeesWhatWasJustWrittenAndMapped) {
  place.make("from", std::string(2 * kPage, 'a'));
  UniqueFd from = place.open("from", O_RDWR), to = place.open("to", O_RDWR | O_CREAT);
  Map map(place, from.get(), 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  std::memcpy(map.bytes() + 100, "mapped", 6);
  place.call("write", ::pwrite(from.get(), "written", 7, kPage));
  Map target(place, to.get(), kPage, PROT_READ, MAP_SHARED);
  place.call("copy", ::copy_file_range(from.get(), nullptr, to.get(), nullptr, 2 * kPage, 0));
  place.note("mapped target", std::string_view(target.bytes() + 98, 10));
  place.read("to");
}

POSIX_CASE(Copy, OutOfAndIntoAnotherFileSystem) {
  place.make("file", "content");
  UniqueFd fd = place.open("file", O_RDWR);
  UniqueFd memory(::memfd_create("elsewhere", MFD_CLOEXEC));
  place.call("out", ::copy_file_range(fd.get(), nullptr, memory.get(), nullptr, 7, 0));
  place.call("in", ::copy_file_range(memory.get(), nullptr, fd.get(), nullptr, 7, 0));
}

// ---- large files ----

POSIX_CASE(Large, BeyondFourGibibytes) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
  for (off_t at : {off_t(0), (off_t(1) << 31) - 3, (off_t(1) << 32) - 3, (off_t(1) << 32) + 5000,
                   off_t(1) << 40}) {
    place.call("write", ::pwrite(fd.get(), "abcdef", 6, at));
    place.fstat("file", fd.get());
  }
  for (off_t at : {(off_t(1) << 31) - 5, (off_t(1) << 32) - 5, (off_t(1) << 32) + 4998,
                   (off_t(1) << 40) - 2}) {
    place.read_fd("across", fd.get(), at, 20);
  }
  note_holes(place, fd.get());
  void* far = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), off_t(1) << 32);
  place.note("mmap", far == MAP_FAILED ? name_of_errno(errno) : "mapped");
  if (far != MAP_FAILED) {
    std::memcpy(static_cast<char*>(far) + 100, "mapped", 6);
    place.call("msync", ::msync(far, kPage, MS_SYNC));
    ::munmap(far, kPage);
  }
  place.read_fd("mapped", fd.get(), (off_t(1) << 32) + 98, 10);
  place.call("truncate", ::ftruncate(fd.get(), (off_t(1) << 32) + 1));
  place.call("end", ::lseek(fd.get(), 0, SEEK_END));
}

POSIX_CASE(Large, TheLargestOffsets) {
  UniqueFd fd = place.open("file", O_RDWR | O_CREAT);
  for (off_t at : {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2}) {
    place.call("write", ::pwrite(fd.get(), "x", 1, at) > 0 ? 1 : -1);
    place.call("truncate", ::ftruncate(fd.get(), at));
    char byte;
    place.call("read", ::pread(fd.get(), &byte, 1, at - 1));
  }
  place.fstat("file", fd.get());
}

}  // namespace
}  // namespace epochfs::testing
