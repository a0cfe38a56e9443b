#include "tests/e2e/chains.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "journal/unix.h"
#include "tests/e2e/host.h"

namespace epochfs::testing {
namespace {

constexpr size_t kBlock = 64 << 10;
constexpr uint64_t kNever = UINT64_MAX;

int outcome(long result) { return result < 0 ? errno : 0; }

UniqueFd open_in(const std::string& dir, const std::string& name, int flags) {
  return UniqueFd(::open((dir + "/" + name).c_str(), flags | O_CLOEXEC, 0644));
}

// ---- one word that fills a whole block: half of a write would be seen ----

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Block = std::unique_ptr<uint64_t[], Free>;

Block make_block(uint64_t n) {
  Block block(static_cast<uint64_t*>(std::aligned_alloc(4096, kBlock)));
  std::fill_n(block.get(), kBlock / 8, n);
  return block;
}

int write_block(const std::string& dir, const std::string& name, uint64_t n, int flags) {
  UniqueFd fd = open_in(dir, name, O_CREAT | O_WRONLY | flags);
  if (!fd) return errno;
  const Block block = make_block(n);
  return outcome(::pwrite(fd.get(), block.get(), kBlock, 0));
}

Count read_block(const std::string& dir, const std::string& name) {
  UniqueFd fd = open_in(dir, name, O_RDONLY);
  if (!fd) return errno == ENOENT ? Count(0) : std::nullopt;
  const Block block = make_block(0);
  const ssize_t size = ::pread(fd.get(), block.get(), kBlock, 0);
  if (size == 0) return 0;  // created, and not written yet
  const bool same = size == kBlock && std::all_of(block.get(), block.get() + kBlock / 8,
                                                  [&](uint64_t w) { return w == block[0]; });
  return same ? Count(block[0]) : std::nullopt;
}

// ---- the ways ----

int append(const std::string& dir, uint64_t n) {
  UniqueFd fd = open_in(dir, "log", O_CREAT | O_WRONLY | O_APPEND);
  return fd ? outcome(::write(fd.get(), &n, sizeof n)) : errno;
}
Count read_log(const std::string& dir) {
  UniqueFd fd = open_in(dir, "log", O_RDONLY);
  if (!fd) return errno == ENOENT ? Count(0) : std::nullopt;
  uint64_t count = 0;
  for (uint64_t n; ::read(fd.get(), &n, sizeof n) == sizeof n;) {
    if (n != ++count) return std::nullopt;
  }
  return count;
}

int overwrite(const std::string& dir, uint64_t n) { return write_block(dir, "block", n, 0); }
Count read_overwritten(const std::string& dir) { return read_block(dir, "block"); }

int overwrite_direct(const std::string& dir, uint64_t n) {
  return write_block(dir, "block", n, O_DIRECT);
}

// A new file each time, put in place of the old by a rename.
int replace(const std::string& dir, uint64_t n) {
  if (int error = write_block(dir, "new", n, O_TRUNC); error != 0) return error;
  return outcome(::rename((dir + "/new").c_str(), (dir + "/current").c_str()));
}
Count read_replaced(const std::string& dir) { return read_block(dir, "current"); }

// One file, whose name counts, in two directories by turns.
std::string moved_name(const std::string& dir, uint64_t n) {
  return fmt::format("{}/{}/{}", dir, n % 2 ? "odd" : "even", n);
}
int move(const std::string& dir, uint64_t n) {
  if (n == 1) {
    ::mkdir((dir + "/odd").c_str(), 0755);
    ::mkdir((dir + "/even").c_str(), 0755);
    return UniqueFd(::open(moved_name(dir, 1).c_str(), O_CREAT | O_WRONLY, 0644)) ? 0 : errno;
  }
  return outcome(::rename(moved_name(dir, n - 1).c_str(), moved_name(dir, n).c_str()));
}
Count read_moved(const std::string& dir) {
  std::vector<uint64_t> names;
  std::error_code ignored;
  for (const char* half : {"/odd", "/even"}) {
    for (const auto& entry : std::filesystem::directory_iterator(dir + half, ignored)) {
      names.push_back(std::strtoull(entry.path().filename().c_str(), nullptr, 10));
    }
  }
  if (names.size() > 1) return std::nullopt;
  return names.empty() ? 0 : names[0];
}

int link_once_more(const std::string& dir, uint64_t n) {
  const std::string base = dir + "/base";
  if (n == 1) UniqueFd(::open(base.c_str(), O_CREAT | O_WRONLY, 0644));
  return outcome(::link(base.c_str(), fmt::format("{}/{}", dir, n).c_str()));
}
Count read_links(const std::string& dir) {
  struct stat st;
  if (::stat((dir + "/base").c_str(), &st) != 0) return errno == ENOENT ? Count(0) : std::nullopt;
  for (uint64_t n = 1; n < st.st_nlink; ++n) {
    if (::access(fmt::format("{}/{}", dir, n).c_str(), F_OK) != 0) return std::nullopt;
  }
  return st.st_nlink - 1;
}

int set_xattr(const std::string& dir, uint64_t n) {
  UniqueFd fd = open_in(dir, "file", O_CREAT | O_WRONLY);
  return fd ? outcome(::fsetxattr(fd.get(), "user.n", &n, sizeof n, 0)) : errno;
}
Count read_xattr(const std::string& dir) {
  uint64_t n = 0;
  const ssize_t size = ::getxattr((dir + "/file").c_str(), "user.n", &n, sizeof n);
  if (size < 0) return errno == ENOENT || errno == ENODATA ? Count(0) : std::nullopt;
  return n;
}

int grow(const std::string& dir, uint64_t n) {
  UniqueFd fd = open_in(dir, "file", O_CREAT | O_WRONLY);
  return fd ? outcome(::ftruncate(fd.get(), off_t(n * 5000))) : errno;
}
Count read_size(const std::string& dir) {
  struct stat st;
  if (::stat((dir + "/file").c_str(), &st) != 0) return errno == ENOENT ? Count(0) : std::nullopt;
  return st.st_size % 5000 == 0 ? Count(st.st_size / 5000) : std::nullopt;
}

int set_time(const std::string& dir, uint64_t n) {
  UniqueFd fd = open_in(dir, "file", O_CREAT | O_WRONLY);
  const timespec times[2] = {{0, UTIME_OMIT}, {time_t(n), 0}};
  return fd ? outcome(::futimens(fd.get(), times)) : errno;
}
Count read_time(const std::string& dir) {
  struct stat st;
  if (::stat((dir + "/file").c_str(), &st) != 0) return errno == ENOENT ? Count(0) : std::nullopt;
  // Made, and its time not set yet.
  return st.st_mtim.tv_sec > 1'000'000'000 ? 0 : uint64_t(st.st_mtim.tv_sec);
}

int store(const std::string& dir, uint64_t n, bool sync) {
  UniqueFd fd = open_in(dir, "page", O_CREAT | O_RDWR);
  if (!fd) return errno;
  if (n == 1 && ::ftruncate(fd.get(), 4096) != 0) return errno;
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return errno;
  // Through a descriptor: a store into a page of a mount that has gone is a SIGBUS.
  UniqueFd self(::open("/proc/self/mem", O_WRONLY | O_CLOEXEC));
  int error = outcome(::pwrite(self.get(), &n, sizeof n, off_t(uintptr_t(page))));
  if (error == 0 && sync) error = outcome(::msync(page, 4096, MS_SYNC));
  ::munmap(page, 4096);
  return error;
}
int store_and_sync(const std::string& dir, uint64_t n) { return store(dir, n, true); }
int store_only(const std::string& dir, uint64_t n) { return store(dir, n, false); }
Count read_page(const std::string& dir) {
  UniqueFd fd = open_in(dir, "page", O_RDONLY);
  if (!fd) return errno == ENOENT ? Count(0) : std::nullopt;
  uint64_t n = 0;
  return ::pread(fd.get(), &n, sizeof n, 0) >= 0 ? Count(n) : std::nullopt;
}

}  // namespace

const std::vector<Chain::Way>& Chain::ways() {
  static const std::vector<Way> kWays = {
      {"append", append, read_log},
      {"overwrite", overwrite, read_overwritten},
      {"overwrite-direct", overwrite_direct, read_overwritten},
      {"replace", replace, read_replaced},
      {"move", move, read_moved},
      {"link", link_once_more, read_links},
      {"xattr", set_xattr, read_xattr},
      {"grow", grow, read_size},
      {"time", set_time, read_time},
      {"store-and-sync", store_and_sync, read_page},
      {"store", store_only, read_page, false},
  };
  return kWays;
}

int Chain::step(Clock& clock, const std::string& root) {
  if (steps_.empty() && ::mkdir(dir(root).c_str(), 0755) != 0 && errno != EEXIST) return errno;
  steps_.push_back({clock.tick(), kNever});
  const int error = way_.step(dir(root), steps_.size());
  if (error == 0) steps_.back().returned = clock.tick();
  return error;
}

void Chain::resume(Clock& clock, const std::string& root) {
  if (steps_.empty() || steps_.back().returned != kNever) return;
  if (way_.read(dir(root)) == steps_.size()) {
    steps_.back().returned = clock.tick();
  } else {
    steps_.pop_back();
  }
}

std::string Chain::describe(const std::string& root) const {
  const Count count = way_.read(dir(root));
  return fmt::format("{}: {} of {} steps", name_, count ? std::to_string(*count) : "no state",
                     steps_.size());
}

std::string not_a_cut(const std::vector<std::unique_ptr<Chain>>& chains, const std::string& root,
                      uint64_t since) {
  uint64_t latest = 0;  // when the latest step that is there began
  const Chain* latest_chain = nullptr;
  std::vector<uint64_t> counts;
  for (const auto& chain : chains) {
    const Count count = chain->way_.read(chain->dir(root));
    if (!count || *count > chain->steps_.size()) return chain->describe(root);
    counts.push_back(*count);
    if (*count == 0 || chain->steps_[*count - 1].began <= latest) continue;
    latest = chain->steps_[*count - 1].began;
    latest_chain = chain.get();
  }
  for (size_t i = 0; i < chains.size(); ++i) {
    const Chain& chain = *chains[i];
    if (counts[i] == chain.steps_.size()) continue;
    const uint64_t returned = chain.steps_[counts[i]].returned;  // of the first that is missing
    if (returned < since) {
      return fmt::format("{}; the next had returned at {}, before {}", chain.describe(root),
                         returned, since);
    }
    if (chain.way_.ordered && returned < latest) {
      return fmt::format("{}; the next had returned at {}, before one began at {} that is there: {}",
                         chain.describe(root), returned, latest, latest_chain->describe(root));
    }
  }
  return "";
}

ChainWriters::ChainWriters(std::string root, Random& random, int writers)
    : root_(std::move(root)), random_(random), writers_(writers) {
  for (int w = 0; w < writers; ++w) {
    for (const Chain::Way& way : Chain::ways()) {
      chains_.push_back(std::make_unique<Chain>(way, fmt::format("{}-{}", way.name, w)));
    }
  }
}

void ChainWriters::start() {
  stop_ = false;
  for (int w = 0; w < writers_; ++w) {
    threads_.emplace_back([this, w, seed = random_.u64()] {
      Random random(seed);
      const size_t kinds = Chain::ways().size();
      while (!stop_) {
        Chain& chain = *chains_[size_t(w) * kinds + random.below(kinds)];
        if (chain.step(clock_, root_) != 0) return;  // the mount has gone
        ++steps_;
      }
    });
  }
}

void ChainWriters::stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void ChainWriters::resume() {
  for (auto& chain : chains_) chain->resume(clock_, root_);
}

void ChainWriters::let_them_write(uint64_t steps) {
  const uint64_t until = steps_ + steps;
  eventually("the writers write", [&] { return steps_ >= until; });
}

}  // namespace epochfs::testing
