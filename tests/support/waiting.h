// Waiting: how does a test wait for what announces itself by no event? It polls, and it never
// waits for ever.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace epochfs::testing {

using Milliseconds = std::chrono::milliseconds;

// Throws Failure when `what` has not come in time.
void eventually(const std::string& what, const std::function<bool()>& condition,
                Milliseconds timeout = Milliseconds(60'000));

}  // namespace epochfs::testing
