#include "tests/e2e/chains.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "journal/base/unix.h"
#include "tests/e2e/host.h"
#include "tests/support/failure.h"
#include "tests/support/random.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

// What calls into a mount return that was killed.
bool is_of_a_dead_mount(int error) {
  return error == ENOTCONN || error == ECONNABORTED || error == EIO;
}

}  // namespace

SharedMemory::SharedMemory(size_t bytes) : bytes_(bytes) {
  at_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
  if (at_ == MAP_FAILED) throw Failure(fmt::format("share memory: {}", std::strerror(errno)));
}
SharedMemory::~SharedMemory() { ::munmap(at_, bytes_); }

// ---- one chain ----

int Chain::step(const std::string& root) {
  place_.dir = root + "/" + name_;
  const uint64_t n = *begun_ + 1;
  if (n > kMaxSteps) return EOVERFLOW;
  if (n == 1 && ::mkdir(place_.dir.c_str(), 0755) != 0 && errno != EEXIST) return errno;
  Step& step = steps_[n - 1];
  step.returned = kNever;
  step.began = now_ns();
  *begun_ = n;
  const int error = way_.step(place_, n);
  if (error == 0) step.returned = now_ns();
  return error;
}

std::string Chain::resume(const std::string& root) {
  place_ = Place{};
  uint64_t n = *begun_;
  if (n == 0) return "";
  const Count count = way_.read(root + "/" + name_);
  Step& last = steps_[n - 1];
  if (last.returned == kNever) {
    if (way_.ordered && count == n) {
      last.returned = now_ns();
    } else {
      *begun_ = --n;
    }
  }
  if (way_.ordered) return count == n ? "" : describe(root) + ", and all of them had returned";
  // What was stored may have gone with the mount.
  place_.dir = root + "/" + name_;
  const int error = n == 0 ? 0 : way_.step(place_, n);
  place_ = Place{};
  return error == 0 ? "" : fmt::format("{}: {}", name_, std::strerror(error));
}

std::string Chain::describe(const std::string& root) const {
  const Count count = way_.read(root + "/" + name_);
  return fmt::format("{}: {} of {} steps", name_, count ? std::to_string(*count) : "no state",
                     begun_->load());
}

std::string not_a_cut(const std::vector<std::unique_ptr<Chain>>& chains, const std::string& root,
                      CutTime time) {
  Time latest = 0;  // when the latest step that is there began
  const Chain* latest_chain = nullptr;
  std::vector<uint64_t> counts;
  for (const auto& chain : chains) {
    const Count count = chain->way_.read(root + "/" + chain->name_);
    if (!count || *count > *chain->begun_) return chain->describe(root);
    counts.push_back(*count);
    if (*count == 0) continue;
    const Time began = chain->steps_[*count - 1].began;
    if (time.at != 0 && began > time.at) {
      return fmt::format("{}; the last of them began at {}, after the cut at {}",
                         chain->describe(root), began, time.at);
    }
    if (began <= latest) continue;
    latest = began;
    latest_chain = chain.get();
  }
  for (size_t i = 0; i < chains.size(); ++i) {
    const Chain& chain = *chains[i];
    if (counts[i] == *chain.begun_) continue;
    const Time returned = chain.steps_[counts[i]].returned;  // of the first that is missing
    const Time cut = chain.way_.ordered ? std::max(time.asked, time.at) : time.asked;
    if (returned < cut) {
      return fmt::format("{}; the next had returned at {}, before the cut at {}",
                         chain.describe(root), returned, cut);
    }
    if (chain.way_.ordered && returned < latest) {
      return fmt::format(
          "{}; the next had returned at {}, before one began at {} that is there: {}",
          chain.describe(root), returned, latest, latest_chain->describe(root));
    }
  }
  return "";
}

// ---- the writers ----

ChainWriters::ChainWriters(std::string root, Random& random, int writers, bool gathered)
    : root_(std::move(root)), random_(random), writers_(writers), ended_(size_t(writers)) {
  for (int w = 0; w < writers; ++w) {
    for (const ChainWay& way : chain_ways()) {
      if (gathered && !way.ordered_if_gathered) continue;
      chains_.push_back(std::make_unique<Chain>(way, fmt::format("{}-{}", way.name, w)));
    }
  }
}

void ChainWriters::start() {
  state_->stop = false;
  for (int w = 0; w < writers_; ++w) {
    ended_[size_t(w)].error = 0;
    const uint64_t seed = random_.u64();
    const pid_t parent = ::getpid(), process = ::fork();
    if (process < 0) throw Failure(fmt::format("fork a writer: {}", std::strerror(errno)));
    if (process == 0) {
      // Ends with the test, and keeps nothing of it open.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      ::close_range(3, ~0u, 0);
      write(w, seed);
    }
    processes_.push_back(process);
  }
}

void ChainWriters::write(int writer, uint64_t seed) {
  Random random(seed);
  const size_t ways = chains_.size() / size_t(writers_);
  while (!state_->stop) {
    const size_t chain = size_t(writer) * ways + random.below(ways);
    if (const int error = chains_[chain]->step(root_); error != 0) {
      ended_[size_t(writer)].chain = chain;
      ended_[size_t(writer)].error = error;
      ::_exit(1);
    }
    ++state_->steps;
  }
  ::_exit(0);
}

void ChainWriters::wait() {
  state_->stop = true;
  for (pid_t process : processes_) {
    while (::waitpid(process, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  processes_.clear();
}

void ChainWriters::kill() {
  for (pid_t process : processes_) ::kill(process, SIGKILL);
  wait();
}

std::string ChainWriters::failed(bool mount_was_gone) const {
  for (size_t w = 0; w < size_t(writers_); ++w) {
    const int error = ended_[w].error;
    if (error == 0 || (mount_was_gone && is_of_a_dead_mount(error))) continue;
    return fmt::format("{}: {}", chains_[ended_[w].chain]->describe(root_), std::strerror(error));
  }
  return "";
}

void ChainWriters::stop() {
  wait();
  if (std::string why = failed(false); !why.empty()) throw Failure(why);
}

void ChainWriters::stop_and_resume() {
  wait();
  std::string why = failed(true);
  for (auto& chain : chains_) {
    if (why.empty()) why = chain->resume(root_);
  }
  if (!why.empty()) throw Failure(why);
}

void ChainWriters::let_them_write(uint64_t steps) {
  const uint64_t until = state_->steps + steps;
  eventually("the writers write", [&] {
    if (std::string why = failed(false); !why.empty()) throw Failure(why);
    return state_->steps >= until;
  });
}

}  // namespace epochfs::testing
