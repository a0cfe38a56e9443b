// mount_control: how does tests/bench/pauses talk to a mount? By this, which needs no process
// for each call.
//
//   mount_control DIR cuts COUNT INTERVAL_MS   cuts epochs; for each, the pause in ns
//   mount_control DIR pin SINCE                cuts an epoch, prints its number, and keeps what
//                                              changed in (SINCE, epoch] pinned until stdin ends
//   mount_control DIR cursors                  tells the mount that its cursors changed
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "fs/commands/mount_client.h"

namespace epochfs {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kTimeoutMs = 60'000;

template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "mount_control: {}\n", result.error().message());
    std::exit(1);
  }
  return *std::move(result);
}

template <typename Answer>
void check(Answer& answer) {
  if (!answer.hasFailure()) return;
  fmt::print(stderr, "mount_control: {}\n", answer.getFailure().getMessage().cStr());
  std::exit(1);
}

void cut(fs::MountClient& client, int count, std::chrono::milliseconds interval) {
  auto next = Clock::now();
  for (int i = 0; i < count; ++i) {
    std::this_thread::sleep_until(next);
    next = std::max(next + interval, Clock::now());
    auto request = client.mount().barrierRequest();
    request.setTimeoutMs(kTimeoutMs);
    auto answer = must(client.wait(request.send(), 120s));
    check(answer);
    auto status = must(client.wait(client.mount().infoRequest().send(), 120s));
    fmt::print("{}\n", status.getInfo().getLastBarrierPauseNs());
  }
}

void pin(fs::MountClient& client, uint64_t since) {
  auto request = client.mount().barrierAndPinRequest();
  request.setSince(since);
  request.setTimeoutMs(kTimeoutMs);
  auto answer = must(client.wait(request.send(), 120s));
  check(answer);
  fmt::print("{}\n", answer.getEpoch());
  std::fflush(stdout);
  char byte;
  while (::read(0, &byte, 1) > 0) {
  }
}

int run(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[2] : "";
  const bool right = (what == "cuts" && argc == 5) || (what == "pin" && argc == 4) ||
                     (what == "cursors" && argc == 3);
  if (!right) {
    fmt::print(stderr, "usage: mount_control DIR cuts COUNT INTERVAL_MS | pin SINCE | cursors\n");
    return 2;
  }
  auto client = must(fs::MountClient::connect("measure", argv[1]));
  if (what == "cuts") cut(*client, std::atoi(argv[3]), std::atoi(argv[4]) * 1ms);
  if (what == "pin") pin(*client, std::strtoull(argv[3], nullptr, 10));
  if (what == "cursors") must(client->wait(client->mount().cursorsChangedRequest().send(), 600s));
  return 0;
}

}  // namespace
}  // namespace epochfs

int main(int argc, char** argv) { return epochfs::run(argc, argv); }
