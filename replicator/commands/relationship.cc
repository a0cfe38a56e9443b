// `epochfs relationship create | list | show | authorize | decline | enable |
// disable | edit | replicate | delete`.
#include <capnp/compat/json.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>

#include "replicator/commands/client.h"
#include "replicator/commands/commands.h"
#include "replicator/relationship/relationship.h"

namespace epochfs::replicator {
namespace {

Result<std::string> absolute(const std::string& path) {
  if (path.starts_with("/")) return path;
  char cwd[PATH_MAX];
  if (!::getcwd(cwd, sizeof cwd)) return fail_errno("find the current directory");
  return std::string(cwd) + "/" + path;
}

// A port that was given, checked.
Result<uint16_t> port_of(const Parsed& given) {
  const uint64_t port = given.number("port");
  if (port < 1 || port > 65535) {
    return fail(
        fmt::format("option --port: {} is out of range; a port is a number from 1 to 65535", port),
        0, ExitStatus::kUsage);
  }
  return static_cast<uint16_t>(port);
}

void add_interval_option(Options& options) {
  options.decimal("interval", "SECONDS",
                  "from one epoch to the next, while there are changes, 0.1 to 86400 (1)");
}

// The interval that was given, in milliseconds.
Result<uint32_t> interval_of(const Parsed& given) {
  const double ms = given.decimal("interval") * 1000;
  if (!(ms >= kMinIntervalMs && ms <= kMaxIntervalMs)) {
    return fail(fmt::format("option --interval: {:g} is out of range; give a number of seconds "
                            "from {:g} to {:g}",
                            ms / 1000, kMinIntervalMs / 1e3, kMaxIntervalMs / 1e3),
                0, ExitStatus::kUsage);
  }
  return static_cast<uint32_t>(std::lround(ms));
}

Result<std::vector<BlackoutWindow>> windows_of(const Parsed& given) {
  std::vector<BlackoutWindow> windows;
  for (const auto& text : given.texts("blackout")) {
    if (text == "none") continue;
    EPOCHFS_TRY(BlackoutWindow window, parse_blackout(text));
    windows.push_back(window);
  }
  return windows;
}

// ---- create ----

const CommandHelp kCreateHelp = {
    "epochfs relationship create --source DIR --target-address HOST [--port N] --target DIR "
    "[OPTIONS]",
    "Asks the target host to take a replica of a mounted directory. Nothing is copied\n"
    "until its administrator has said: epochfs relationship authorize ID.\n"
    "Prints the id of the new relationship."};

Result<ExitStatus> create(const Arguments& arguments) {
  Options options;
  options.required_text("source", "DIR", "directory that is mounted with epochfs")
      .required_text("target-address", "HOST", "IPv4 or IPv6 address, or name, of the target host")
      .number("port", "N", "port of its daemon", kDefaultPort)
      .required_text("target", "DIR", "directory on the target host; must exist there and be empty")
      .flag("disabled", "create it switched off")
      .texts("blackout", "WINDOW",
             "hours in which no data moves, such as \"SUN,MON 22:00-06:00\"; up to 10 times")
      .text("time-zone", "ZONE", "of the windows, such as Europe/Berlin (this host's)");
  add_interval_option(options);
  add_control_option(options);
  EPOCHFS_TRY(auto given, parse_command(kCreateHelp, options, arguments));
  if (given.help_shown) return ExitStatus::kOk;

  Relationship r;
  EPOCHFS_TRY(r.source_directory, absolute(given.text("source")));
  r.target_directory = given.text("target");
  r.peer = given.text("target-address");
  EPOCHFS_TRY(r.port, port_of(given));
  r.enabled = !given.has("disabled");
  if (given.has("interval")) {
    EPOCHFS_TRY(r.interval_ms, interval_of(given));
  }
  EPOCHFS_TRY(r.windows, windows_of(given));
  r.time_zone = given.has("time-zone") ? given.text("time-zone") : local_time_zone();
  EPOCHFS_TRY(r.blackouts, BlackoutSchedule::make(r.windows, r.time_zone));

  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(given)));
  auto request = client->daemon().createRequest();
  write_relationship(r, request.initRelationship());
  EPOCHFS_TRY(auto reply, client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  fmt::print("{}\n", reply.getId().cStr());
  return ExitStatus::kOk;
}

// ---- list, show ----

void print_json(rpc::Relationship::Reader r) {
  capnp::JsonCodec json;
  fmt::print("{}\n", json.encode(r).cStr());
}

std::string windows_text(rpc::Relationship::Reader r) {
  auto windows = read_blackouts(r.getBlackouts());
  if (!windows) return windows.error().message();
  std::string out;
  for (const auto& window : *windows) out += (out.empty() ? "" : "; ") + to_string(window);
  return out.empty() ? "none" : out;
}

bool is_damaged(rpc::Relationship::Reader r) { return r.getDecision() == "damaged"; }

std::string decision_text(rpc::Relationship::Reader r) {
  if (is_damaged(r)) return fmt::format("damaged ({})", r.getEnded().cStr());
  if (r.getEnded().size() > 0) return fmt::format("ended ({})", r.getEnded().cStr());
  return r.getDecision();
}

void print_whole(rpc::Relationship::Reader r) {
  const bool source = r.getRole() == rpc::Role::SOURCE;
  auto line = [](const char* name, const std::string& value) {
    fmt::print("{:<18}{}\n", name, value);
  };
  line("id", r.getId());
  line("role", role_text(r.getRole()));
  line("source directory", escape(std::string(r.getSourceDirectory())));
  line("target directory", escape(std::string(r.getTargetDirectory())));
  line(source ? "target host" : "source host",
       source ? fmt::format("{}:{}", r.getPeer().cStr(), r.getPort()) : std::string(r.getPeer()));
  line("decision", decision_text(r));
  if (is_damaged(r)) return;
  line("enabled", r.getEnabled() ? "yes" : "no");
  line("blackout windows", windows_text(r));
  line("time zone", r.getTimeZone());
  if (source) line("interval", fmt::format("{:g} s", r.getIntervalMs() / 1e3));
  line("lineage", r.getLineage());
  line("recovery epoch", r.getCursor() == 0 ? "none yet" : std::to_string(r.getCursor()));
}

Result<ExitStatus> list(const Arguments& arguments) {
  const CommandHelp help = {"epochfs relationship list [--json]",
                            "Lists the relationships of this host, as source and as target.\n"
                            "Exit status: 3 where one is damaged, 4 where there are none."};
  Options options;
  options.flag("json", "one JSON object a line");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(parsed)));
  EPOCHFS_TRY(auto reply, client->call(client->daemon().listRequest().send()));
  auto all = reply.getRelationships();
  if (parsed.has("json")) {
    for (auto r : all) print_json(r);
  } else if (all.size() > 0) {
    fmt::print("{:<14}{:<8}{:<12}{:<26}{}\n", "ID", "ROLE", "DECISION", "PEER", "SOURCE -> TARGET");
    for (auto r : all) {
      const bool source = r.getRole() == rpc::Role::SOURCE;
      fmt::print(
          "{:<14}{:<8}{:<12}{:<26}{} -> {}\n", r.getId().cStr(), role_text(r.getRole()),
          r.getEnded().size() > 0 && !is_damaged(r) ? "ended" : r.getDecision().cStr(),
          source ? fmt::format("{}:{}", r.getPeer().cStr(), r.getPort()) : std::string(r.getPeer()),
          escape(std::string(r.getSourceDirectory())), escape(std::string(r.getTargetDirectory())));
      if (is_damaged(r)) fmt::print("{:<14}{}\n", "", r.getEnded().cStr());
    }
  }
  if (all.size() == 0) return ExitStatus::kNoMatch;
  for (auto r : all) {
    if (is_damaged(r)) return ExitStatus::kPartial;
  }
  return ExitStatus::kOk;
}

Result<ExitStatus> show(const Arguments& arguments) {
  const CommandHelp help = {"epochfs relationship show ID [--json]",
                            "Shows one relationship. The id may be shortened."};
  Options options;
  options.argument("id").flag("json", "as one JSON object");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  const std::string id = parsed.text("id");
  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(parsed)));
  EPOCHFS_TRY(auto reply, client->call(client->daemon().listRequest().send()));
  kj::Maybe<rpc::Relationship::Reader> found;
  for (auto r : reply.getRelationships()) {
    if (!std::string(r.getId()).starts_with(id)) continue;
    if (found != nullptr) {
      return fail("relationship \"" + id + "\" is ambiguous", 0, ExitStatus::kUsage);
    }
    found = r;
  }
  KJ_IF_MAYBE (r, found) {
    parsed.has("json") ? print_json(*r) : print_whole(*r);
    return is_damaged(*r) ? ExitStatus::kPartial : ExitStatus::kOk;
  }
  return fail("no relationship \"" + id + "\"; see: epochfs relationship list", 0,
              ExitStatus::kNoMatch);
}

// ---- decisions and changes ----

struct OnId {
  Parsed given;
  std::string id;
  std::unique_ptr<DaemonClient> client;  // null: help was shown
};

Result<OnId> on_id(const CommandHelp& help, Options options, const Arguments& arguments) {
  options.argument("id");
  add_control_option(options);
  OnId out;
  EPOCHFS_TRY(out.given, parse_command(help, options, arguments));
  if (out.given.help_shown) return out;
  out.id = out.given.text("id");
  EPOCHFS_TRY(out.client, DaemonClient::connect(control_socket(out.given)));
  return out;
}

Result<ExitStatus> authorize(const Arguments& arguments) {
  Options options;
  options.flag("replace-contents",
               "accept although the target directory is not empty: what is in it will "
               "be DELETED when the first epoch is applied");
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship authorize ID [--replace-contents]",
                              "Accepts, on the target host, that a source keeps a replica here."},
                             std::move(options), arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().authorizeRequest();
  request.setId(on.id);
  request.setReplaceContents(on.given.has("replace-contents"));
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> decline(const Arguments& arguments) {
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship decline ID",
                              "Refuses, on the target host, a relationship that was asked for."},
                             Options(), arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().declineRequest();
  request.setId(on.id);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> set_enabled(const Arguments& arguments, bool enabled) {
  const CommandHelp help =
      enabled
          ? CommandHelp{"epochfs relationship enable ID", "Lets a relationship move data again."}
          : CommandHelp{"epochfs relationship disable ID",
                        "Stops a relationship from moving data. No progress is lost."};
  EPOCHFS_TRY(OnId on, on_id(help, Options(), arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().enableRequest();
  request.setId(on.id);
  request.setEnabled(enabled);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> edit(const Arguments& arguments) {
  Options options;
  options.text("target-address", "HOST", "new address of the target host")
      .number("port", "N", "new port of its daemon")
      .texts("blackout", "WINDOW", "all windows anew; \"none\" for none")
      .text("time-zone", "ZONE", "of the windows");
  add_interval_option(options);
  EPOCHFS_TRY(OnId on,
              on_id({"epochfs relationship edit ID [OPTIONS]",
                     "Changes address, port, blackout windows, time zone or interval on the "
                     "source host.\nSource and target directory are fixed."},
                    std::move(options), arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().editRequest();
  request.setId(on.id);
  auto change = request.initChange();
  if (auto address = on.given.maybe_text("target-address")) change.setTargetAddress(*address);
  if (on.given.has("port")) {
    EPOCHFS_TRY(uint16_t port, port_of(on.given));
    change.setPort(port);
  }
  if (on.given.has("blackout")) {
    EPOCHFS_TRY(auto windows, windows_of(on.given));
    change.setSetBlackouts(true);
    write_blackouts(windows, change.initBlackouts(unsigned(windows.size())));
  }
  if (auto zone = on.given.maybe_text("time-zone")) change.setTimeZone(*zone);
  if (on.given.has("interval")) {
    EPOCHFS_TRY(uint32_t interval_ms, interval_of(on.given));
    change.setIntervalMs(interval_ms);
  }
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> replicate(const Arguments& arguments) {
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship replicate ID",
                              "Cuts and ships an epoch now, without waiting for the interval."},
                             Options(), arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().replicateRequest();
  request.setId(on.id);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> remove(const Arguments& arguments) {
  Options options;
  options.flag("yes,y", "do not ask");
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship delete ID [--yes]",
                              "Ends a relationship, on either host. The data stays where it is."},
                             std::move(options), arguments));
  if (!on.client) return ExitStatus::kOk;
  if (!on.given.has("yes")) {
    if (!::isatty(STDIN_FILENO)) {
      return fail("delete relationship " + on.id + ": say --yes where nobody can be asked", 0,
                  ExitStatus::kUsage);
    }
    std::cerr << "Delete relationship " << on.id << "? Its data stays. [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") return ExitStatus::kFailed;
  }
  auto request = on.client->daemon().removeRequest();
  request.setId(on.id);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  if (reply.getWarning().size() > 0) std::cerr << "epochfs: " << reply.getWarning().cStr() << "\n";
  return ExitStatus::kOk;
}

}  // namespace

int relationship_command(const Arguments& arguments) {
  using Run = Result<ExitStatus> (*)(const Arguments&);
  struct Row {
    const char* what;
    Run run;
  };
  static const std::map<std::string, Row> kSubcommands = {
      {"create", {"ask a target host to take a replica", create}},
      {"list", {"list the relationships of this host", list}},
      {"show", {"show one", show}},
      {"authorize", {"accept one, on the target host", authorize}},
      {"decline", {"refuse one, on the target host", decline}},
      {"enable", {"let it move data", [](const Arguments& a) { return set_enabled(a, true); }}},
      {"disable", {"stop it", [](const Arguments& a) { return set_enabled(a, false); }}},
      {"edit", {"change address, port, windows, time zone or interval", edit}},
      {"replicate", {"cut and ship an epoch now", replicate}},
      {"delete", {"end it", remove}},
  };
  const std::string usage = "usage: epochfs relationship SUBCOMMAND ...";
  auto help = [&](FILE* out) {
    fmt::print(out, "{}\n\nSubcommands:\n", usage);
    for (const auto& [name, row] : kSubcommands) fmt::print(out, "  {:<11}{}\n", name, row.what);
    fmt::print(out, "\nEach takes --help.\n");
  };
  if (arguments.empty()) {
    help(stderr);
    return static_cast<int>(ExitStatus::kUsage);
  }
  if (arguments[0] == "--help" || arguments[0] == "-h") {
    help(stdout);
    return 0;
  }
  auto row = kSubcommands.find(arguments[0]);
  if (row == kSubcommands.end()) {
    return report({"unknown subcommand \"" + arguments[0] + "\"; " + usage, 0, ExitStatus::kUsage});
  }
  auto status = row->second.run({arguments.begin() + 1, arguments.end()});
  return status ? static_cast<int>(*status) : report(status.error());
}

}  // namespace epochfs::replicator
