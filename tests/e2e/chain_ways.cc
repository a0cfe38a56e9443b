#include "tests/e2e/chain_ways.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace epochfs::testing {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kBlock = 64 << 10;
constexpr size_t kLargeBlock = 512 << 10;  // still one request of the kernel

int outcome(long result) { return result < 0 ? errno : 0; }
// Of a call that has to take all of it.
int outcome(ssize_t result, size_t wanted) {
  return result < 0 ? errno : size_t(result) == wanted ? 0 : EMSGSIZE;
}

UniqueFd open_file(const std::string& path, int flags) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
}
int rename(const std::string& from, const std::string& to, unsigned flags = 0) {
  return outcome(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
}
int sync(const UniqueFd& fd) { return outcome(::fsync(fd.get())); }

// What a path names: 0 where it names nothing, nullopt where `f` says so.
template <typename F>
Count of_stat(const std::string& path, F f) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return errno == ENOENT ? Count(0) : std::nullopt;
  return f(st);
}

std::vector<std::string> names_in(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
    names.push_back(entry.path().filename());
  }
  return names;
}
std::vector<uint64_t> numbers_in(const std::string& dir) {
  std::vector<uint64_t> numbers;
  for (const auto& name : names_in(dir))
    numbers.push_back(std::strtoull(name.c_str(), nullptr, 10));
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// ---- one word that fills a whole block: half of a write would be seen ----

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Block = std::unique_ptr<uint64_t[], Free>;

Block make_block(uint64_t n, size_t size = kBlock) {
  Block block(static_cast<uint64_t*>(std::aligned_alloc(kPage, size)));
  std::fill_n(block.get(), size / sizeof n, n);
  return block;
}
int write_block(const UniqueFd& fd, uint64_t n, size_t size = kBlock, uint64_t at = 0) {
  return outcome(::pwrite(fd.get(), make_block(n, size).get(), size, off_t(at)), size);
}
int write_block(const std::string& path, uint64_t n, int flags = 0) {
  UniqueFd fd = open_file(path, O_CREAT | O_WRONLY | flags);
  return fd ? write_block(fd, n) : errno;
}

Count read_block(const std::string& path, size_t block_size = kBlock) {
  UniqueFd fd = open_file(path, O_RDONLY);
  if (!fd) return errno == ENOENT ? Count(0) : std::nullopt;
  const Block block = make_block(0, block_size);
  const ssize_t size = ::pread(fd.get(), block.get(), block_size, 0);
  if (size == 0) return 0;  // created, and not written yet
  const bool same = size == ssize_t(block_size) &&
                    std::all_of(block.get(), block.get() + block_size / sizeof(uint64_t),
                                [&](uint64_t word) { return word == block[0]; });
  return same ? Count(block[0]) : std::nullopt;
}

// The first word of each page.
template <size_t N>
std::optional<std::array<uint64_t, N>> read_pages(const std::string& path) {
  std::array<uint64_t, N> words{};
  UniqueFd fd = open_file(path, O_RDONLY);
  if (!fd) return errno == ENOENT ? std::optional(words) : std::nullopt;
  for (size_t i = 0; i < N; ++i) {
    if (::pread(fd.get(), &words[i], sizeof words[i], off_t(i * kPage)) < 0) return std::nullopt;
  }
  return words;
}

// ---- writing ----

int append_with(const Place& place, uint64_t n, int flags) {
  UniqueFd fd = open_file(place / "log", O_CREAT | O_WRONLY | O_APPEND | flags);
  return fd ? outcome(::write(fd.get(), &n, sizeof n), sizeof n) : errno;
}
int append(Place& place, uint64_t n) { return append_with(place, n, 0); }
int append_synced(Place& place, uint64_t n) { return append_with(place, n, O_DSYNC); }
Count read_log(const std::string& dir) {
  UniqueFd fd = open_file(dir + "/log", O_RDONLY);
  if (!fd) return errno == ENOENT ? Count(0) : std::nullopt;
  uint64_t count = 0;
  for (uint64_t n; ::read(fd.get(), &n, sizeof n) == sizeof n;) {
    if (n != ++count) return std::nullopt;
  }
  return count;
}

int overwrite(Place& place, uint64_t n) { return write_block(place / "block", n); }
int overwrite_direct(Place& place, uint64_t n) { return write_block(place / "block", n, O_DIRECT); }
// Through a descriptor that stays open: no close brings it in.
int overwrite_synced(Place& place, uint64_t n) {
  if (!place.held) place.held = open_file(place / "block", O_CREAT | O_WRONLY);
  if (!place.held) return errno;
  int error = write_block(place.held, n);
  return error != 0 ? error : sync(place.held);
}
Count read_overwritten(const std::string& dir) { return read_block(dir + "/block"); }

// What is written over is long, and goes in one piece: two files by turns.
int truncate_first(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / (n % 2 ? "odd" : "even"), O_CREAT | O_WRONLY | O_TRUNC);
  return fd ? write_block(fd, n, kLargeBlock) : errno;
}
Count read_truncated(const std::string& dir) {
  const Count odd = read_block(dir + "/odd", kLargeBlock);
  const Count even = read_block(dir + "/even", kLargeBlock);
  if (!odd || !even) return std::nullopt;
  const auto [less, more] = std::minmax(*odd, *even);
  return less == 0 || more - less == 1 ? Count(more) : std::nullopt;
}

int grow(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "file", O_CREAT | O_WRONLY);
  return fd ? outcome(::ftruncate(fd.get(), off_t(n * 5000))) : errno;
}
Count read_size(const std::string& dir) {
  return of_stat(dir + "/file", [](const struct stat& st) {
    return st.st_size % 5000 == 0 ? Count(st.st_size / 5000) : std::nullopt;
  });
}

// A block of pages, all 1 at first. Then, by turns, a page becomes zeros, and what the odd
// step says.
constexpr size_t kPagesOfBlock = kBlock / kPage;
size_t page_of_step(uint64_t n) { return n / 2 % kPagesOfBlock; }
int punch(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "block", O_CREAT | O_WRONLY);
  if (!fd) return errno;
  if (n == 1) return write_block(fd, n);
  const uint64_t at = page_of_step(n) * kPage;
  if (n % 2 == 1) return write_block(fd, n, kPage, at);
  auto zero = [&](int how) {
    return outcome(::fallocate(fd.get(), how | FALLOC_FL_KEEP_SIZE, off_t(at), kPage));
  };
  const int error = zero(n % 4 == 0 ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
  return error == EOPNOTSUPP ? zero(FALLOC_FL_PUNCH_HOLE) : error;
}
Count read_punched(const std::string& dir) {
  const auto pages = read_pages<kPagesOfBlock>(dir + "/block");
  if (!pages) return std::nullopt;
  const uint64_t newest = *std::max_element(pages->begin(), pages->end());
  if (newest == 0) return 0;
  const uint64_t next = newest + 1;
  const bool punched = (*pages)[page_of_step(next)] == 0;
  for (size_t i = 0; i < kPagesOfBlock; ++i) {
    uint64_t wanted = newest;  // the newest odd step of this page
    while (wanted > 1 && page_of_step(wanted) != i) wanted -= 2;
    if (punched && i == page_of_step(next)) wanted = 0;
    if ((*pages)[i] != wanted) return std::nullopt;
  }
  return punched ? next : newest;
}

int copy_range(Place& place, uint64_t n) {
  if (int error = write_block(place / "from", n); error != 0) return error;
  UniqueFd from = open_file(place / "from", O_RDONLY);
  UniqueFd to = open_file(place / "block", O_CREAT | O_WRONLY);
  if (!from || !to) return errno;
  return outcome(::copy_file_range(from.get(), nullptr, to.get(), nullptr, kBlock, 0), kBlock);
}

// ---- stores into mapped pages ----

// Through a descriptor: a store into a page of a mount that has gone is a SIGBUS.
int store_word(char* at, uint64_t n) {
  UniqueFd self(::open("/proc/self/mem", O_WRONLY | O_CLOEXEC));
  return self ? outcome(::pwrite(self.get(), &n, sizeof n, off_t(uintptr_t(at))), sizeof n) : errno;
}
int hold_mapped(Place& place, size_t pages) {
  if (place.mapped) return 0;
  place.held = open_file(place / "pages", O_CREAT | O_RDWR);
  if (!place.held || ::ftruncate(place.held.get(), off_t(pages * kPage)) != 0) return errno;
  void* at =
      ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, place.held.get(), 0);
  if (at == MAP_FAILED) return errno;
  place.mapped.reset(static_cast<char*>(at), [pages](char* p) { ::munmap(p, pages * kPage); });
  return 0;
}

int store(const Place& place, uint64_t n, bool sync) {
  UniqueFd fd = open_file(place / "page", O_CREAT | O_RDWR);
  if (!fd) return errno;
  if (n == 1 && ::ftruncate(fd.get(), kPage) != 0) return errno;
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return errno;
  int error = store_word(static_cast<char*>(page), n);
  if (error == 0 && sync) error = outcome(::msync(page, kPage, MS_SYNC));
  ::munmap(page, kPage);
  return error;
}
int store_and_sync(Place& place, uint64_t n) { return store(place, n, true); }
int store_and_unmap(Place& place, uint64_t n) { return store(place, n, false); }
Count read_page(const std::string& dir) {
  const auto word = read_pages<1>(dir + "/page");
  return word ? Count((*word)[0]) : std::nullopt;
}

// Nothing but a barrier, or the kernel when it sees fit, brings these pages in.
constexpr size_t kHeldPages = 4;
int store_and_hold(Place& place, uint64_t n) {
  int error = hold_mapped(place, kHeldPages);
  for (size_t i = 0; error == 0 && i < kHeldPages; ++i) {
    error = store_word(place.mapped.get() + i * kPage, n);
  }
  return error;
}
Count read_held(const std::string& dir) {
  const auto words = read_pages<kHeldPages>(dir + "/pages");
  return words ? Count(*std::min_element(words->begin(), words->end())) : std::nullopt;
}

// Pages of one file by turns, and by turns past the page cache, through it, and mapped.
constexpr size_t kMixedPages = 8;
int mix(Place& place, uint64_t n) {
  if (int error = hold_mapped(place, kMixedPages); error != 0) return error;
  const uint64_t at = n % kMixedPages * kPage;
  if (n % 3 == 0) {
    UniqueFd fd = open_file(place / "pages", O_WRONLY | O_DIRECT);
    return fd ? write_block(fd, n, kPage, at) : errno;
  }
  if (n % 3 == 1) return write_block(place.held, n, kPage, at);
  if (int error = store_word(place.mapped.get() + at, n); error != 0) return error;
  return outcome(::msync(place.mapped.get() + at, kPage, MS_SYNC));
}
Count read_mixed(const std::string& dir) {
  const auto words = read_pages<kMixedPages>(dir + "/pages");
  if (!words) return std::nullopt;
  const uint64_t newest = *std::max_element(words->begin(), words->end());
  for (uint64_t n = newest; n + kMixedPages > newest && n > 0; --n) {
    if ((*words)[n % kMixedPages] != n) return std::nullopt;
  }
  return newest;
}

// ---- putting one thing in the place of another ----

// A new file each time, put in place of the old by a rename.
int replace(Place& place, uint64_t n) {
  if (int error = write_block(place / "new", n, O_TRUNC); error != 0) return error;
  return rename(place / "new", place / "current");
}
Count read_replaced(const std::string& dir) { return read_block(dir + "/current"); }

// As editors and databases do it.
int replace_synced(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "new", O_CREAT | O_WRONLY | O_TRUNC);
  if (!fd) return errno;
  int error = write_block(fd, n);
  if (error == 0) error = sync(fd);
  if (error == 0) error = rename(place / "new", place / "current");
  if (error != 0) return error;
  UniqueFd dir = open_file(place.dir, O_RDONLY | O_DIRECTORY);
  return dir ? sync(dir) : errno;
}

// The old file has no name any more, but a writer.
int replace_and_spoil(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "new", O_CREAT | O_WRONLY | O_TRUNC);
  if (!fd) return errno;
  int error = write_block(fd, n);
  if (error == 0) error = rename(place / "new", place / "current");
  if (error == 0 && place.held) error = write_block(place.held, 0xdead'beef'0000'0000);
  place.held = std::move(fd);
  return error;
}

// A file that had no name until it was whole.
int replace_nameless(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place.dir, O_TMPFILE | O_WRONLY);
  if (!fd && errno == EOPNOTSUPP) return replace(place, n);  // with an old libfuse
  if (!fd) return errno;
  if (int error = write_block(fd, n); error != 0) return error;
  ::unlink((place / "new").c_str());
  const std::string self = fmt::format("/proc/self/fd/{}", fd.get());
  if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, (place / "new").c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return errno;
  }
  return rename(place / "new", place / "current");
}

int exchange(Place& place, uint64_t n) {
  if (int error = write_block(place / "spare", n); error != 0) return error;
  return rename(place / "spare", place / "current", n == 1 ? 0 : RENAME_EXCHANGE);
}

int replace_symlink(Place& place, uint64_t n) {
  ::unlink((place / "new").c_str());
  if (::symlink(std::to_string(n).c_str(), (place / "new").c_str()) != 0) return errno;
  return rename(place / "new", place / "current");
}
Count read_symlink(const std::string& dir) {
  char target[32] = {};
  if (::readlink((dir + "/current").c_str(), target, sizeof target - 1) < 0) {
    return errno == ENOENT ? Count(0) : std::nullopt;
  }
  return std::strtoull(target, nullptr, 10);
}

// ---- names ----

// One file, whose name counts, in two directories by turns.
std::string numbered(const std::string& dir, uint64_t n) {
  return fmt::format("{}/{}/{}", dir, n % 2 ? "odd" : "even", n);
}
void make_halves(const Place& place) {
  ::mkdir((place / "odd").c_str(), 0755);
  ::mkdir((place / "even").c_str(), 0755);
}
int move(Place& place, uint64_t n) {
  if (n > 1) return rename(numbered(place.dir, n - 1), numbered(place.dir, n));
  make_halves(place);
  return open_file(numbered(place.dir, 1), O_CREAT | O_WRONLY) ? 0 : errno;
}
// The same with a directory, and what is in it.
int move_directory(Place& place, uint64_t n) {
  if (n > 1) return rename(numbered(place.dir, n - 1), numbered(place.dir, n));
  make_halves(place);
  ::mkdir((place / "new").c_str(), 0755);
  if (int error = write_block(place / "new/block", 1); error != 0) return error;
  return rename(place / "new", numbered(place.dir, 1));
}
Count read_moved(const std::string& dir) {
  std::vector<uint64_t> names = numbers_in(dir + "/odd");
  const std::vector<uint64_t> even = numbers_in(dir + "/even");
  names.insert(names.end(), even.begin(), even.end());
  if (names.size() > 1) return std::nullopt;
  return names.empty() ? 0 : names[0];
}
Count read_moved_directory(const std::string& dir) {
  const Count n = read_moved(dir);
  if (!n || *n == 0) return n;
  return read_block(numbered(dir, *n) + "/block") == 1 ? n : std::nullopt;
}

// Across directories.
int link_once_more(Place& place, uint64_t n) {
  if (n == 1) {
    make_halves(place);
    open_file(place / "base", O_CREAT | O_WRONLY);
  }
  return outcome(::link((place / "base").c_str(), numbered(place.dir, n).c_str()));
}
Count read_links(const std::string& dir) {
  return of_stat(dir + "/base", [&](const struct stat& st) -> Count {
    for (uint64_t n = 1; n < st.st_nlink; ++n) {
      if (::access(numbered(dir, n).c_str(), F_OK) != 0) return std::nullopt;
    }
    return st.st_nlink - 1;
  });
}

// Files, or directories, that come and go: the next one first.
template <typename Make, typename Remove>
int come_and_go(const Place& place, uint64_t n, Make make, Remove remove) {
  if (int error = make(place / std::to_string(n)); error != 0) return error;
  return n == 1 ? 0 : outcome(remove((place / std::to_string(n - 1)).c_str()));
}
int make_and_unlink(Place& place, uint64_t n) {
  return come_and_go(
      place, n, [&](const std::string& path) { return write_block(path, n); }, ::unlink);
}
int make_and_remove_directory(Place& place, uint64_t n) {
  return come_and_go(
      place, n,
      [](const std::string& path) {
        return ::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST ? 0 : errno;
      },
      ::rmdir);
}
Count read_come_and_gone(const std::string& dir) {
  const std::vector<uint64_t> names = numbers_in(dir);
  if (names.empty()) return 0;
  // Two: the step has not ended.
  if (names.size() > 2 || names.back() - names.front() != names.size() - 1) return std::nullopt;
  return names.front();
}
Count read_unlinked(const std::string& dir) {
  const Count n = read_come_and_gone(dir);
  if (!n || *n == 0) return n;
  const Count held = read_block(dir + "/" + std::to_string(*n));
  if (*n == 1 && held == 0) return 0;  // not written yet
  return held == n ? n : std::nullopt;
}

// ---- attributes ----

int set_xattr(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "file", O_CREAT | O_WRONLY);
  return fd ? outcome(::fsetxattr(fd.get(), "user.n", &n, sizeof n, 0)) : errno;
}
Count read_xattr(const std::string& dir) {
  uint64_t n = 0;
  const ssize_t size = ::getxattr((dir + "/file").c_str(), "user.n", &n, sizeof n);
  if (size < 0) return errno == ENOENT || errno == ENODATA ? Count(0) : std::nullopt;
  return n;
}

int set_owner(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "file", O_CREAT | O_WRONLY);
  return fd ? outcome(::fchown(fd.get(), uid_t(n), gid_t(-1))) : errno;
}
Count read_owner(const std::string& dir) {
  return of_stat(dir + "/file", [](const struct stat& st) { return Count(st.st_uid); });
}

int set_time(Place& place, uint64_t n) {
  UniqueFd fd = open_file(place / "file", O_CREAT | O_WRONLY);
  const timespec times[2] = {{0, UTIME_OMIT}, {time_t(n), 0}};
  return fd ? outcome(::futimens(fd.get(), times)) : errno;
}
Count read_time(const std::string& dir) {
  return of_stat(dir + "/file", [](const struct stat& st) {
    // Made, and its time not set yet.
    return Count(st.st_mtim.tv_sec > 1'000'000'000 ? 0 : uint64_t(st.st_mtim.tv_sec));
  });
}

}  // namespace

const std::vector<ChainWay>& chain_ways() {
  constexpr bool kOrdered = true;
  static const std::vector<ChainWay> kWays = {
      {"append", append, read_log, kOrdered, false},
      {"append-synced", append_synced, read_log},
      {"overwrite", overwrite, read_overwritten, kOrdered, false},
      {"overwrite-direct", overwrite_direct, read_overwritten},
      {"overwrite-synced", overwrite_synced, read_overwritten},
      {"truncate", truncate_first, read_truncated, kOrdered, false},
      {"grow", grow, read_size},
      {"punch", punch, read_punched, kOrdered, false},
      {"copy-range", copy_range, read_overwritten},
      {"store-and-sync", store_and_sync, read_page},
      {"store-and-unmap", store_and_unmap, read_page, false, false},
      {"store-and-hold", store_and_hold, read_held, false, false},
      {"mix", mix, read_mixed, kOrdered, false},
      {"replace", replace, read_replaced, kOrdered, false},
      {"replace-synced", replace_synced, read_replaced},
      {"replace-and-spoil", replace_and_spoil, read_replaced, kOrdered, false},
      {"replace-nameless", replace_nameless, read_replaced, kOrdered, false},
      {"replace-symlink", replace_symlink, read_symlink},
      {"exchange", exchange, read_replaced, kOrdered, false},
      {"move", move, read_moved},
      {"move-directory", move_directory, read_moved_directory, kOrdered, false},
      {"link", link_once_more, read_links},
      {"unlink", make_and_unlink, read_unlinked, kOrdered, false},
      {"rmdir", make_and_remove_directory, read_come_and_gone},
      {"xattr", set_xattr, read_xattr},
      {"owner", set_owner, read_owner},
      {"time", set_time, read_time},
  };
  return kWays;
}

}  // namespace epochfs::testing
