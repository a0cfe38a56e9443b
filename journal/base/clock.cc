#include "journal/base/clock.h"

namespace epochfs {

uint64_t Clock::now_ns() const {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(since_1970).count());
}

std::chrono::system_clock::time_point Clock::now() const {
  using std::chrono::system_clock;
  return system_clock::time_point(
      std::chrono::duration_cast<system_clock::duration>(std::chrono::nanoseconds(now_ns())));
}

const Clock& Clock::system() {
  static const Clock clock;
  return clock;
}

uint64_t now_ns() { return Clock::system().now_ns(); }

}  // namespace epochfs
