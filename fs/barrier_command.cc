// epochfs barrier DIR: cuts an epoch of a mounted directory.
#include <fmt/format.h>
#include <kj/async-io.h>

#include <cstdio>

#include "fs/commands.h"
#include "journal/unix_rpc.h"
#include "journal/volume.h"
#include "schema/control.capnp.h"

namespace epochfs {
namespace {

namespace po = boost::program_options;

constexpr uint32_t kMaxTimeoutSeconds = 24 * 3600;
constexpr uint32_t kGraceSeconds = 60;  // for the mount's own answer that it took too long

const CommandHelp kHelp{
    "epochfs barrier DIR [--timeout SECONDS]",
    "Cuts an epoch of the mounted directory DIR and prints its number once the epoch is\n"
    "sealed and durable. It holds every change that was complete before the command began.\n"
    "Exit status: 0 ok, 1 failed, 2 usage, 6 the mount does not answer, 8 timed out (nothing\n"
    "was cut)."};

Result<std::string> socket_of(const std::string& dir) {
  auto journal = journal_path_of(dir);
  if (journal) return *journal + "/" + kControlSocket;
  if (!says_mount_is_gone(journal.error().code)) return tl::unexpected(journal.error());
  return fail(fmt::format("cut epoch of {}: the mount's process has ended; mount it again with: "
                          "epochfs mount {}", dir, dir), 0, ExitStatus::kUnreachable);
}

Result<uint64_t> cut(const std::string& socket, uint32_t timeout_s) {
  auto io = kj::setupAsyncIo();
  auto connected = UnixRpcClient::connect(*io.lowLevelProvider, socket);
  if (!connected && connected.error().status == ExitStatus::kNotAuthorized) {
    return tl::unexpected(connected.error());
  }
  if (!connected) {
    return fail(fmt::format("cut epoch: no mount answers ({}); mount the directory with: epochfs "
                            "mount DIR", connected.error().message()),
                0, ExitStatus::kUnreachable);
  }
  auto client = *std::move(connected);
  auto request = client->bootstrap<rpc::Mount>().barrierRequest();
  request.setTimeoutMs(timeout_s * 1000);
  auto outcome = request.send().then(
      [](auto&& results) -> Result<uint64_t> {
        if (!results.hasFailure()) return results.getEpoch();
        auto failure = results.getFailure();
        return fail(failure.getMessage().cStr(), 0, ExitStatus(failure.getStatus()));
      },
      [&](kj::Exception&& e) -> Result<uint64_t> {
        return fail(fmt::format("cut epoch: the mount does not answer on {}: {}", socket,
                                e.getDescription().cStr()),
                    0, ExitStatus::kUnreachable);
      });
  auto too_late = io.provider->getTimer()
                      .afterDelay((timeout_s + kGraceSeconds) * kj::SECONDS)
                      .then([]() -> Result<uint64_t> {
                        return fail("cut epoch: the mount does not answer", 0,
                                    ExitStatus::kTimedOut);
                      });
  return outcome.exclusiveJoin(kj::mv(too_late)).wait(io.waitScope);
}

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
  EPOCHFS_TRY(std::string socket, socket_of(parsed.values["dir"].as<std::string>()));
  auto epoch = cut(socket, timeout_s);
  if (!epoch && epoch.error().status == ExitStatus::kNotAuthorized) {
    return fail(fmt::format("cut epoch of {}: {}", parsed.values["dir"].as<std::string>(),
                            epoch.error().message()), 0, ExitStatus::kNotAuthorized);
  }
  if (!epoch) return tl::unexpected(epoch.error());
  std::printf("%llu\n", static_cast<unsigned long long>(*epoch));
  return {};
}

}  // namespace

int barrier_command(const Arguments& arguments) {
  auto done = run(arguments);
  return done ? int(ExitStatus::kOk) : report(done.error());
}

}  // namespace epochfs
