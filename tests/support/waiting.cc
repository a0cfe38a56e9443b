#include "tests/support/waiting.h"

#include <fmt/format.h>

#include <thread>

#include "tests/support/failure.h"

namespace epochfs::testing {

constexpr Milliseconds kPoll(10);

void eventually(const std::string& what, const std::function<bool()>& condition,
                Milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Failure(fmt::format("{}: not within {} ms", what, timeout.count()));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace epochfs::testing
