// epochfs barrier DIR: cuts an epoch of a mounted directory.
#include <fmt/format.h>
#include <signal.h>
#include <string.h>

#include <cstdio>
#include <optional>

#include "fs/commands/commands.h"
#include "fs/commands/hook.h"
#include "fs/commands/mount_client.h"
#include "journal/volume/labels.h"

namespace epochfs::fs {
namespace {

using namespace std::chrono_literals;
using std::chrono::seconds;

constexpr uint32_t kMaxTimeoutSeconds = 24 * 3600;
constexpr auto kGrace = 60s;  // for the mount's own answer that it took too long

const CommandHelp kHelp{
    "epochfs barrier DIR [--label TEXT] [--before COMMAND] [--after COMMAND]\n"
    "                    [--hook-timeout SECONDS] [--timeout SECONDS]",
    "Cuts an epoch of the mounted directory DIR and prints its number once the epoch is\n"
    "sealed and durable. It holds every change that was complete before the command began.\n"
    "Each call makes an epoch of its own, also where nothing has changed since the last one.\n"
    "\n"
    "--label names the epoch: `epochfs journal epochs` shows it. The 10,000 newest are kept.\n"
    "\n"
    "--before runs first, so that an application can write what it holds back, and --after\n"
    "last, in any case: also when --before failed, the epoch was not cut, or the command is\n"
    "interrupted. Both run by /bin/sh -c, without input; what they print goes to stderr. In\n"
    "their environment: EPOCHFS_MOUNTPOINT; for --after EPOCHFS_EPOCH, the number, empty if\n"
    "nothing was sealed, and EPOCHFS_BARRIER_STATUS, the exit status so far (128 and the\n"
    "signal's number if one came). When --before fails nothing is sealed. What does not end\n"
    "in time is ended with all its children: SIGTERM, 5 seconds later SIGKILL.\n"
    "\n"
    "Exit status: 0 ok, 1 failed (--before, too), 2 usage, 3 sealed and printed, but --after\n"
    "failed or the label could not be written, 6 the mount does not answer, 8 timed out\n"
    "(--before, too): nothing was cut."};

struct Request {
  std::string dir, label;
  std::optional<std::string> before, after;
  seconds timeout{}, hook_timeout{};
};

Result<Request> read_request(const Parsed& given) {
  Request request{.dir = given.text("dir"),
                  .label = given.maybe_text("label").value_or(""),
                  .before = given.maybe_text("before"),
                  .after = given.maybe_text("after")};
  if (given.has("label")) EPOCHFS_DO(journal::check_label(request.label));
  for (auto [name, into] :
       {std::pair{"timeout", &request.timeout}, std::pair{"hook-timeout", &request.hook_timeout}}) {
    const uint64_t number = given.number(name);
    if (number == 0 || number > kMaxTimeoutSeconds) {
      return fail(fmt::format("--{} {}: from 1 to {} seconds", name, number, kMaxTimeoutSeconds), 0,
                  ExitStatus::kUsage);
    }
    *into = seconds(number);
  }
  return request;
}

// What became of the barrier.
struct Cut {
  uint64_t epoch = 0;  // 0: nothing was sealed, as far as is known
  std::optional<Error> failure;

  bool sealed() const { return epoch != 0; }
};

Cut cut(MountClient& client, const Request& request, int interrupt) {
  auto call = client.mount().barrierRequest();
  call.setTimeoutMs(uint32_t(request.timeout.count()) * 1000);
  call.setLabel(request.label);
  auto answer = client.wait(call.send(), request.timeout + kGrace, interrupt);
  if (!answer) return {0, answer.error()};
  Cut done{answer->getEpoch(), {}};
  if (answer->hasFailure()) {
    auto failure = answer->getFailure();
    done.failure = Error{failure.getMessage().cStr(), 0, ExitStatus(failure.getStatus())};
  }
  return done;
}

void print(const Cut& done) {
  if (!done.sealed()) return;
  std::printf("%llu\n", static_cast<unsigned long long>(done.epoch));
  std::fflush(stdout);  // before whatever --after takes
}

// Reports every failure when it comes. The first one decides the exit status.
int report_also(const Error& error, int status) {
  const int its_own = report(error);
  return status != 0 ? status : its_own;
}

// Ends as the signal would have ended the process, so that a shell stops, too.
[[noreturn]] void end_by(int number) {
  ::signal(number, SIG_DFL);
  ::raise(number);
  std::abort();
}

class HookedBarrier {
 public:
  HookedBarrier(MountClient& client, const Request& request, std::string mountpoint)
      : client_(client), request_(request), mountpoint_(std::move(mountpoint)) {}

  int run() {
    int interrupted = 0;
    const int status = run_holding_signals(interrupted);
    if (interrupted != 0) end_by(interrupted);
    return status;
  }

 private:
  // interrupted: the signal that came before the epoch was known to be sealed; 0: none did.
  int run_holding_signals(int& interrupted) {
    HeldSignals signals;
    Cut done;
    if (request_.before) {
      auto before = run_hook(hook("--before", *request_.before), signals, true);
      if (!before) done.failure = before.error();
    }
    if (!done.failure) done = cut(client_, request_, signals.fd());
    print(done);
    int status = done.failure ? report(*done.failure) : 0;
    if (!done.sealed()) interrupted = signals.caught();
    if (!request_.after) return status;

    Hook last = hook("--after", *request_.after);
    last.environment["EPOCHFS_EPOCH"] = done.sealed() ? fmt::format("{}", done.epoch) : "";
    last.environment["EPOCHFS_BARRIER_STATUS"] =
        fmt::format("{}", interrupted != 0 ? 128 + interrupted : status);
    if (auto after = run_hook(last, signals, false); !after) {
      // This says nothing about the epoch: it is sealed, or its own error was reported.
      after.error().status = ExitStatus::kPartial;
      status = report_also(after.error(), status);
    }
    return status;
  }

  Hook hook(const char* name, const std::string& command) const {
    return {.name = name,
            .command = command,
            .environment = {{"EPOCHFS_MOUNTPOINT", mountpoint_}},
            .timeout = request_.hook_timeout};
  }

  MountClient& client_;
  const Request& request_;
  const std::string mountpoint_;
};

Result<int> run(const Arguments& arguments) {
  Options options;
  options.argument("dir")
      .text("label", "TEXT", "what to call the epoch; at most 255 bytes, no control characters")
      .text("before", "COMMAND", "to run before the cut")
      .text("after", "COMMAND", "to run in the end, in any case")
      .number("hook-timeout", "SECONDS", "how long each of the two may take", 60)
      .number("timeout", "SECONDS", "how long operations under way may hold the barrier up", 10);
  EPOCHFS_TRY(Parsed parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return 0;
  EPOCHFS_TRY(Request request, read_request(parsed));
  EPOCHFS_TRY(auto client, MountClient::connect("cut epoch of", request.dir));
  if (!request.before && !request.after) {
    const Cut done = cut(*client, request, -1);
    print(done);
    return done.failure ? report(*done.failure) : 0;
  }
  EPOCHFS_TRY(auto info, client->wait(client->mount().infoRequest().send(), 10s));
  return HookedBarrier(*client, request, info.getInfo().getMountpoint()).run();
}

}  // namespace

int barrier_command(const Arguments& arguments) {
  auto status = run(arguments);
  return status ? *status : report(status.error());
}

}  // namespace epochfs::fs
