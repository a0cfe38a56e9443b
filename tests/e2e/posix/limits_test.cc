// Where does FUSE itself keep the mount from behaving like the directory beneath? One table has
// every such case, with the reason and with what the mount does instead. Each case asserts
// what the mount shows, so that a change is noticed. fs/DESIGN.md has the same list.
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/swap.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"

namespace epochfs::testing {
namespace {

// ---- cases ----

void collapse(Place& p) {
  for (int mode : {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE}) {
    p.make("file", std::string(65536, 'x'));
    UniqueFd fd(::openat(p.root(), "file", O_RDWR | O_CLOEXEC));
    p.call("fallocate", ::fallocate(fd.get(), mode, 0, 8192));
  }
  p.stat("file");
}

void clone(Place& p) {
  p.make("from", "content");
  UniqueFd from(::openat(p.root(), "from", O_RDONLY | O_CLOEXEC));
  UniqueFd to(::openat(p.root(), "to", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  p.call("clone", ::ioctl(to.get(), FICLONE, from.get()));
  p.call("copy", ::copy_file_range(from.get(), nullptr, to.get(), nullptr, 7, 0));
  p.read("to");
}

void flags(Place& p) {
  p.make("file", "content");
  UniqueFd fd(::openat(p.root(), "file", O_RDWR | O_CLOEXEC));
  int value = 0;
  fsxattr extended{};
  p.call("get flags", ::ioctl(fd.get(), FS_IOC_GETFLAGS, &value));
  p.call("set flags", ::ioctl(fd.get(), FS_IOC_SETFLAGS, &value));
  p.call("get project", ::ioctl(fd.get(), FS_IOC_FSGETXATTR, &extended));
}

void extents(Place& p) {
  p.make("file", std::string(65536, 'x'));
  UniqueFd fd(::openat(p.root(), "file", O_RDWR | O_CLOEXEC));
  fiemap map{};
  map.fm_length = FIEMAP_MAX_OFFSET;
  p.call("fiemap", ::ioctl(fd.get(), FS_IOC_FIEMAP, &map));
}

void cached_read(Place& p) {
  p.make("file", "content");
  p.read("file");
  p.times("an open", "file", [&] { ::close(::openat(p.root(), "file", O_RDONLY)); });
  p.times("a read from the cache", "file", [&] {
    char byte;
    UniqueFd fd(::openat(p.root(), "file", O_RDONLY));
    EXPECT_EQ(::read(fd.get(), &byte, 1), 1);
  });
}

void type_of_file_system(Place& p) {
  struct statfs st {};
  p.call("statfs", ::statfs(p.directory().c_str(), &st));
  p.note("type", fmt::format("{:x}", st.f_type));
  // The C library guesses by the type.
  p.note("bits of a file's size", ::pathconf(p.directory().c_str(), _PC_FILESIZEBITS));
}

void strangers_chown(Place& p) {
  p.make("file", "x", 04755);
  p.own("file", kAlice, kAlice);
  p.as(bob(),
       [](Place& q) { q.call("chown", ::fchownat(q.root(), "file", uid_t(-1), gid_t(-1), 0)); });
  p.stat("file");
}

void unaligned_direct_io(Place& p) {
  p.make("file", std::string(8192, 'x'));
  UniqueFd fd(::openat(p.root(), "file", O_RDWR | O_DIRECT | O_CLOEXEC));
  alignas(4096) static char bytes[8192];
  p.call("unaligned memory", ::pread(fd.get(), bytes + 1, 4096, 0));
  p.call("unaligned offset", ::pread(fd.get(), bytes, 4096, 3));
  p.call("unaligned size", ::pwrite(fd.get(), bytes, 5, 0));
}

void swap_file(Place& p) {
  p.make("swap", std::string(1 << 20, '\0'), 0600);
  std::string header(4096, '\0');
  const uint32_t words[] = {1, 255, 0};  // version, last page, bad pages
  std::memcpy(header.data() + 1024, words, sizeof words);
  std::memcpy(header.data() + 4086, "SWAPSPACE2", 10);
  UniqueFd fd(::openat(p.root(), "swap", O_RDWR | O_CLOEXEC));
  p.note("header", ::pwrite(fd.get(), header.data(), header.size(), 0));
  if (p.call("swapon", ::swapon((p / "swap").c_str(), 0)) == 0) ::swapoff((p / "swap").c_str());
}

void attributes_of_statx(Place& p) {
  p.make("file", "x");
  struct statx a {};
  p.call("statx", ::statx(p.root(), "file", 0, STATX_BASIC_STATS, &a));
  p.note("attributes that it tells of",
         a.stx_attributes_mask & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND));
}

void holes_under_mappings(Place& p) {
  UniqueFd fd(::openat(p.root(), "file", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  p.call("truncate", ::ftruncate(fd.get(), 65536));
  void* at = ::mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) throw_errno("mmap");
  std::memcpy(at, "stored", 6);
  p.call("data before msync", ::lseek(fd.get(), 0, SEEK_DATA));
  p.call("msync", ::msync(at, 65536, MS_SYNC));
  p.call("data after msync", ::lseek(fd.get(), 0, SEEK_DATA));
  std::memcpy(static_cast<char*>(at) + 32768, "stored", 6);
  ::munmap(at, 65536);
  p.call("data after munmap", ::lseek(fd.get(), 32768, SEEK_DATA));
}

struct Limit {
  const char* name;
  const char* in_design;  // words of fs/DESIGN.md that tell of it
  const char* why;
  const char* instead;
  Case body;
  Transcript mounted;  // what is seen in the mount
};

std::string in_words(const Limit& limit) {
  return std::string(limit.name) + ": " + limit.why + "; instead: " + limit.instead;
}
void PrintTo(const Limit& limit, std::ostream* out) { *out << in_words(limit); }

const Limit kLimits[] = {
    {"CollapseAndInsert",
     "collapse, insert or unshare",
     "the kernel's FUSE lets only some modes of fallocate(2) pass",
     "EOPNOTSUPP, as from a file system that does not have them",
     collapse,
     {"fallocate: EOPNOTSUPP", "fallocate: EOPNOTSUPP", "fallocate: EOPNOTSUPP",
      "stat file: file 0644 0:0 links=1 size=65536"}},
    {"Clone",
     "`FICLONE`",
     "FUSE has no request for it",
     "EOPNOTSUPP; copy_file_range(2) shares blocks where the file system beneath can",
     clone,
     {"clone: EOPNOTSUPP", "copy: 7", "read to: 'content'"}},
    {"FlagsOfChattr",
     "`chattr(1)`",
     "no record of the journal tells of them, nor does a target",
     "ENOTTY; what is set beneath counts all the same",
     flags,
     {"get flags: ENOTTY", "set flags: ENOTTY", "get project: ENOTTY"}},
    {"Extents",
     "`FIEMAP`",
     "FUSE has no request for it",
     "EOPNOTSUPP; SEEK_HOLE and SEEK_DATA work",
     extents,
     {"fiemap: EOPNOTSUPP"}},
    {"CachedReadsAndAtime",
     "updates no access time",
     "the kernel answers from its cache, and nobody beneath learns of the read",
     "the access time moves with the reads that reach the file",
     cached_read,
     {"read file: 'content'", "times moved by an open: ---",
      "times moved by a read from the cache: ---"}},
    {"TypeOfTheFileSystem",
     "type in `statfs(2)`",
     "it is the kernel's to say",
     "FUSE's number, from which the C library guesses 32 for pathconf(_PC_FILESIZEBITS); files "
     "may be as large as beneath",
     type_of_file_system,
     {"statfs: 0", "type: 65735546", "bits of a file's size: 32"}},
    {"StrangersChown",
     "`chown(2)` of nothing",
     "the request looks like the one before a write that clears set-id bits",
     "success, and nothing changes, in place of EPERM",
     strangers_chown,
     {"as 61002: chown: 0", "stat file: file 4755 61001:61001 links=1 size=1"}},
    {"UnalignedDirectIo",
     "unaligned direct I/O",
     "the bytes are copied to and from the mount's memory",
     "it works",
     unaligned_direct_io,
     {"unaligned memory: 4096", "unaligned offset: 4096", "unaligned size: 5"}},
    {"SwapFiles",
     "swap file",
     "the kernel must know where the blocks are",
     "EINVAL",
     swap_file,
     {"header: 4096", "swapon: EINVAL"}},
    {"HolesUnderMappings",
     "stored through a shared mapping",
     "the kernel asks for holes without writing mapped pages first",
     "a hole until msync(2) or munmap(2)",
     holes_under_mappings,
     {"truncate: 0", "data before msync: ENXIO", "msync: 0", "data after msync: 0",
      "data after munmap: 32768"}},
    {"AttributesOfStatx",
     "`stx_attributes`",
     "FUSE drops them",
     "none is told of",
     attributes_of_statx,
     {"statx: 0", "attributes that it tells of: 0"}},
};

class Limits : public PosixTest, public ::testing::WithParamInterface<Limit> {};

TEST_P(Limits, AreAsTheTableSays) {
  const Limit& limit = GetParam();
  const std::string directory = mounted() + "/" + limit.name;
  make_directory(directory);
  Place place(directory);
  limit.body(place);
  EXPECT_EQ(place.transcript(), limit.mounted)
      << in_words(limit)
      << "\nWhere the mount has become better, move the case to its family, and mend "
         "fs/DESIGN.md.";
}

TEST_P(Limits, AreInTheDesignNote) {
  const char* source = std::getenv("EPOCHFS_SOURCE");
  if (!source) GTEST_SKIP() << "EPOCHFS_SOURCE does not name the source tree";
  std::string text = read_whole_file(std::string(source) + "/fs/DESIGN.md");
  for (char& c : text) c = c == '\n' ? ' ' : c;
  EXPECT_NE(text.find(GetParam().in_design), std::string::npos) << GetParam().in_design;
}

INSTANTIATE_TEST_SUITE_P(All, Limits, ::testing::ValuesIn(kLimits),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace epochfs::testing
