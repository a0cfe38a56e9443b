// `epochfs status` and `epochfs wait`.
#include <capnp/compat/json.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "journal/control/space_text.h"
#include "journal/control/standard_output.h"
#include "replicator/commands/client.h"
#include "replicator/commands/commands.h"

namespace epochfs::replicator {
namespace {

constexpr uint64_t kMaxTimeoutSeconds = 1'000'000'000;  // of `wait`

bool unhealthy(rpc::Status::Reader s) {
  auto state = std::string(s.getState());
  return state == "Damaged" || state == "Ended" || state == "Disconnected" ||
         state == "Target Unreachable" || state == "Failed" ||
         !space_warnings(s.getSpace()).empty();
}

std::string local_time(uint64_t ns) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(time_t(ns / 1'000'000'000)));
}

std::string recovery_text(rpc::Status::Reader s) {
  if (s.getRecoveryEpoch() == 0) return "none yet";
  return fmt::format("epoch {}, {}", s.getRecoveryEpoch(), local_time(s.getRecoveryTimeNs()));
}

// Of the last comparison of everything.
std::string comparison_text(rpc::Status::Reader s) {
  const uint64_t began = s.getComparedBeganNs(), ended = s.getComparedEndedNs();
  const std::string why = s.getComparedReason();
  std::string when =
      ended == 0 ? fmt::format("since {}, not complete yet", local_time(began))
                 : fmt::format("{}, in {:.1f} s", local_time(ended), double(ended - began) / 1e9);
  return fmt::format("{} ({}): {} files, {} differed, {} bytes on the wire", when, why,
                     s.getFilesCompared(), s.getFilesDiffered(), s.getComparedBytesSent());
}

void print_lines(rpc::Status::Reader s) {
  const bool source = s.getRole() == rpc::Role::SOURCE;
  std::string state = s.getState();
  if (s.getDetail().size() > 0) state += fmt::format(" ({})", s.getDetail().cStr());
  fmt::print("{}  {}  {} -> {}\n", s.getId().cStr(), role_text(s.getRole()),
             escape(std::string(s.getSourceDirectory())),
             escape(std::string(s.getTargetDirectory())));
  fmt::print("  {:<16}{}\n", "state", state);
  if (s.getState() == "Damaged") return;
  fmt::print("  {:<16}{}\n", source ? "target host" : "source host", s.getPeer().cStr());
  fmt::print("  {:<16}{}\n", "recovery point", recovery_text(s));
  if (!source) return;
  fmt::print("  {:<16}{} epochs, {} files, {} bytes read, {} on the wire\n", "sent",
             s.getEpochsSent(), s.getFilesSent(), s.getBytesRead(), s.getBytesSent());
  if (s.getComparedBeganNs() != 0) fmt::print("  {:<16}{}\n", "compared", comparison_text(s));
  for (const auto& [name, text] : space_warnings(s.getSpace()))
    fmt::print("  {:<16}{}\n", name, text);
}

Result<ExitStatus> show_once(DaemonClient& client, const std::string& id, bool json) {
  auto request = client.daemon().statusRequest();
  request.setId(id);
  EPOCHFS_TRY(auto reply, client.call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  bool well = true;
  for (auto s : reply.getStatuses()) {
    if (json) {
      fmt::print("{}\n", capnp::JsonCodec().encode(s).cStr());
    } else {
      print_lines(s);
    }
    well = well && !unhealthy(s);
  }
  flush_output();
  if (reply.getStatuses().size() == 0) return ExitStatus::kNoMatch;
  return well ? ExitStatus::kOk : ExitStatus::kPartial;
}

Result<ExitStatus> status(const Arguments& arguments) {
  const CommandHelp help = {
      "epochfs status [ID] [--watch] [--json]\n       epochfs status DIR [--json]",
      "Shows how relationships fare, or how the mount of DIR does (with a slash in it, as in\n"
      "./data), and which abilities of the kernel it uses. Exit status: 3 where one has ended,\n"
      "is damaged or disconnected, has failed or cannot reach its target, or where room in the "
      "journal\n"
      "is short; 4 where there is none."};
  Options options;
  options.flag("watch,w", "show it anew every second, until interrupted")
      .flag("json", "one JSON object a line")
      .optional_argument("id");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(parsed)));
  const bool json = parsed.has("json");
  for (;;) {
    if (parsed.has("watch") && ::isatty(STDOUT_FILENO) && !json) fmt::print("\033[H\033[2J");
    EPOCHFS_TRY(auto outcome, show_once(*client, parsed.maybe_text("id").value_or(""), json));
    if (!parsed.has("watch")) return outcome;
    client->io().provider->getTimer().afterDelay(1 * kj::SECONDS).wait(client->io().waitScope);
  }
}

Result<ExitStatus> wait(const Arguments& arguments) {
  const CommandHelp help = {
      "epochfs wait ID [--epoch N | --idle] [--timeout SECONDS]",
      "Waits until the target of a relationship holds epoch N, durably; with --idle until\n"
      "all that was changed before the call is there; else for the first recovery point.\n"
      "Epochs that are sealed while the target is behind may be sent as one, so that it never\n"
      "holds N itself: then the later one ends the wait.\n"
      "\n"
      "Without --timeout it waits for as long as it takes, through disconnections, blackout\n"
      "windows and restarts of the other host. It can be said on either host; --idle on the\n"
      "source's.\n"
      "\n"
      "Exit status: 0 it is there, 1 failed, 2 usage, 3 the relationship has ended, 4 there is\n"
      "none of this id, or no more, 6 the daemon of this host cannot be reached, or ended, 7 not\n"
      "authorized, 8 the time is over: the message says in which state the relationship is."};
  Options options;
  options.number("epoch", "N", "this epoch or a later one")
      .flag("idle", "all changes made so far")
      .decimal("timeout", "SECONDS", "give up after this long, 0.5 for half a second")
      .argument("id");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  if (parsed.has("epoch") && parsed.has("idle")) {
    return fail("options --epoch and --idle exclude each other", 0, ExitStatus::kUsage);
  }
  const double timeout = parsed.has("timeout") ? parsed.decimal("timeout") : 0;
  if (parsed.has("timeout") && !(timeout > 0 && timeout <= kMaxTimeoutSeconds)) {
    return fail(fmt::format("--timeout {}: give seconds, more than 0 and at most {}; without "
                            "it there is no limit",
                            timeout, kMaxTimeoutSeconds),
                0, ExitStatus::kUsage);
  }
  const uint64_t epoch = parsed.maybe_number("epoch").value_or(0);
  if (parsed.has("epoch") && epoch == 0) {
    return fail("--epoch 0: epochs are numbered from 1", 0, ExitStatus::kUsage);
  }
  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(parsed)));
  auto request = client->daemon().waitRequest();
  request.setId(parsed.text("id"));
  request.setEpoch(epoch);
  request.setIdle(parsed.has("idle"));
  request.setTimeoutMs(uint64_t(std::ceil(timeout * 1000)));  // 0 is no limit
  EPOCHFS_TRY(auto reply, client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

int exit_with(const Result<ExitStatus>& status) {
  return status ? static_cast<int>(*status) : report(status.error());
}

}  // namespace

int status_command(const Arguments& arguments) { return exit_with(status(arguments)); }
int wait_command(const Arguments& arguments) { return exit_with(wait(arguments)); }

}  // namespace epochfs::replicator
