// epochfs barrier DIR: cuts an epoch of a mounted directory.
#include <fmt/format.h>

#include <cstdio>

#include "fs/commands.h"
#include "fs/mount_client.h"

namespace epochfs {
namespace {

namespace po = boost::program_options;
using namespace std::chrono_literals;

constexpr uint32_t kMaxTimeoutSeconds = 24 * 3600;
constexpr auto kGrace = 60s;  // for the mount's own answer that it took too long

const CommandHelp kHelp{
    "epochfs barrier DIR [--timeout SECONDS]",
    "Cuts an epoch of the mounted directory DIR and prints its number once the epoch is\n"
    "sealed and durable. It holds every change that was complete before the command began.\n"
    "Exit status: 0 ok, 1 failed, 2 usage, 6 the mount does not answer, 8 timed out (nothing\n"
    "was cut)."};

Result<void> run(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("dir", po::value<std::string>()->required())(
      "timeout", po::value<uint32_t>()->value_name("SECONDS")->default_value(10),
      "how long operations under way may hold the barrier up");
  EPOCHFS_TRY(Parsed parsed, parse_command(kHelp, options, {"dir"}, arguments));
  if (parsed.help_shown) return {};
  const auto timeout_s = parsed.values["timeout"].as<uint32_t>();
  if (timeout_s == 0 || timeout_s > kMaxTimeoutSeconds) {
    return fail(fmt::format("--timeout {}: from 1 to {} seconds", timeout_s, kMaxTimeoutSeconds),
                0, ExitStatus::kUsage);
  }
  EPOCHFS_TRY(auto client,
              MountClient::connect("cut epoch of", parsed.values["dir"].as<std::string>()));
  auto request = client->mount().barrierRequest();
  request.setTimeoutMs(timeout_s * 1000);
  EPOCHFS_TRY(auto cut, client->wait(request.send(), timeout_s * 1s + kGrace));
  if (cut.hasFailure()) {
    auto failure = cut.getFailure();
    return fail(failure.getMessage().cStr(), 0, ExitStatus(failure.getStatus()));
  }
  std::printf("%llu\n", static_cast<unsigned long long>(cut.getEpoch()));
  return {};
}

}  // namespace

int barrier_command(const Arguments& arguments) {
  auto done = run(arguments);
  return done ? int(ExitStatus::kOk) : report(done.error());
}

}  // namespace epochfs
