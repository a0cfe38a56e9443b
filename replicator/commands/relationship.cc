// `epochfs relationship create | list | show | authorize | decline | enable |
// disable | edit | replicate | delete`.
#include <capnp/compat/json.h>
#include <capnp/message.h>
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

namespace po = boost::program_options;
using Strings = std::vector<std::string>;

Result<std::string> absolute(const std::string& path) {
  if (path.starts_with("/")) return path;
  char cwd[PATH_MAX];
  if (!::getcwd(cwd, sizeof cwd)) return fail_errno("find the current directory");
  return std::string(cwd) + "/" + path;
}

// A port that was given, checked: Boost would wrap 65536 around to 0.
Result<uint16_t> port_of(const po::variables_map& values) {
  long port = values["port"].as<long>();
  if (port < 1 || port > 65535) {
    return fail(
        fmt::format("option --port: {} is out of range; a port is a number from 1 to 65535", port),
        0, ExitStatus::kUsage);
  }
  return static_cast<uint16_t>(port);
}

void add_interval_option(po::options_description& options) {
  options.add_options()("interval", po::value<double>()->value_name("SECONDS"),
                        "from one epoch to the next, while there are changes, 0.1 to 86400 (1)");
}

// The interval that was given, in milliseconds.
Result<uint32_t> interval_of(const po::variables_map& values) {
  const double ms = values["interval"].as<double>() * 1000;
  if (!(ms >= kMinIntervalMs && ms <= kMaxIntervalMs)) {
    return fail(fmt::format("option --interval: {:g} is out of range; give a number of seconds "
                            "from {:g} to {:g}",
                            ms / 1000, kMinIntervalMs / 1e3, kMaxIntervalMs / 1e3),
                0, ExitStatus::kUsage);
  }
  return static_cast<uint32_t>(std::lround(ms));
}

Result<std::vector<BlackoutWindow>> windows_of(const po::variables_map& values) {
  std::vector<BlackoutWindow> windows;
  if (!values.count("blackout")) return windows;
  for (const auto& text : values["blackout"].as<Strings>()) {
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
  po::options_description options;
  options.add_options()("source", po::value<std::string>()->required()->value_name("DIR"),
                        "directory that is mounted with epochfs")(
      "target-address", po::value<std::string>()->required()->value_name("HOST"),
      "IPv4 or IPv6 address, or name, of the target host")(
      "port", po::value<long>()->default_value(kDefaultPort)->value_name("N"),
      "port of its daemon")("target", po::value<std::string>()->required()->value_name("DIR"),
                            "directory on the target host; must exist there and be empty")(
      "disabled", "create it switched off")(
      "blackout", po::value<Strings>()->composing()->value_name("WINDOW"),
      "hours in which no data moves, such as \"SUN,MON 22:00-06:00\"; up to 10 times")(
      "time-zone", po::value<std::string>()->value_name("ZONE"),
      "of the windows, such as Europe/Berlin (this host's)");
  add_interval_option(options);
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(kCreateHelp, options, {}, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  const auto& values = parsed.values;

  Relationship r;
  EPOCHFS_TRY(r.source_directory, absolute(values["source"].as<std::string>()));
  r.target_directory = values["target"].as<std::string>();
  r.peer = values["target-address"].as<std::string>();
  EPOCHFS_TRY(r.port, port_of(values));
  r.enabled = !values.count("disabled");
  if (values.count("interval")) {
    EPOCHFS_TRY(r.interval_ms, interval_of(values));
  }
  EPOCHFS_TRY(r.windows, windows_of(values));
  r.time_zone =
      values.count("time-zone") ? values["time-zone"].as<std::string>() : local_time_zone();
  EPOCHFS_TRY(r.blackouts, BlackoutSchedule::make(r.windows, r.time_zone));

  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(values)));
  auto request = client->daemon().createRequest();
  write_relationship(r, request.initRelationship());
  EPOCHFS_TRY(auto reply, client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  std::cout << reply.getId().cStr() << std::endl;
  return ExitStatus::kOk;
}

// ---- list, show ----

void print_json(rpc::Relationship::Reader r) {
  capnp::JsonCodec json;
  std::cout << json.encode(r).cStr() << std::endl;
}

std::string windows_text(rpc::Relationship::Reader r) {
  std::string out;
  for (auto window : r.getBlackouts()) {
    std::string days;
    for (auto day : window.getDays()) days += (days.empty() ? "" : ",") + std::string(day);
    out += fmt::format("{}{} {}-{}", out.empty() ? "" : "; ", days, window.getStart().cStr(),
                       window.getEnd().cStr());
  }
  return out.empty() ? "none" : out;
}

std::string decision_text(rpc::Relationship::Reader r) {
  if (r.getEnded().size() > 0) return fmt::format("ended ({})", r.getEnded().cStr());
  return r.getDecision();
}

void print_whole(rpc::Relationship::Reader r) {
  const bool source = r.getRole() == rpc::Role::SOURCE;
  auto line = [](const char* name, const std::string& value) {
    fmt::print("{:<18}{}\n", name, value);
  };
  line("id", r.getId());
  line("role", source ? "source" : "target");
  line("source directory", escape(std::string(r.getSourceDirectory())));
  line("target directory", escape(std::string(r.getTargetDirectory())));
  line(source ? "target host" : "source host",
       source ? fmt::format("{}:{}", r.getPeer().cStr(), r.getPort()) : std::string(r.getPeer()));
  line("decision", decision_text(r));
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
                            "Exit status 4: there are none."};
  po::options_description options;
  options.add_options()("json", "one JSON object a line");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, {}, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(parsed.values)));
  EPOCHFS_TRY(auto reply, client->call(client->daemon().listRequest().send()));
  auto all = reply.getRelationships();
  if (parsed.values.count("json")) {
    for (auto r : all) print_json(r);
  } else if (all.size() > 0) {
    fmt::print("{:<14}{:<8}{:<12}{:<26}{}\n", "ID", "ROLE", "DECISION", "PEER", "SOURCE -> TARGET");
    for (auto r : all) {
      const bool source = r.getRole() == rpc::Role::SOURCE;
      fmt::print(
          "{:<14}{:<8}{:<12}{:<26}{} -> {}\n", r.getId().cStr(), source ? "source" : "target",
          r.getEnded().size() > 0 ? "ended" : r.getDecision().cStr(),
          source ? fmt::format("{}:{}", r.getPeer().cStr(), r.getPort()) : std::string(r.getPeer()),
          escape(std::string(r.getSourceDirectory())), escape(std::string(r.getTargetDirectory())));
    }
  }
  return all.size() > 0 ? ExitStatus::kOk : ExitStatus::kNoMatch;
}

Result<ExitStatus> show(const Arguments& arguments) {
  const CommandHelp help = {"epochfs relationship show ID [--json]",
                            "Shows one relationship. The id may be shortened."};
  po::options_description options;
  options.add_options()("json", "as one JSON object")("id", po::value<std::string>()->required(),
                                                      "");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, {"id"}, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  const std::string id = parsed.values["id"].as<std::string>();
  EPOCHFS_TRY(auto client, DaemonClient::connect(control_socket(parsed.values)));
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
    parsed.values.count("json") ? print_json(*r) : print_whole(*r);
    return ExitStatus::kOk;
  }
  return fail("no relationship \"" + id + "\"; see: epochfs relationship list", 0,
              ExitStatus::kNoMatch);
}

// ---- decisions and changes ----

struct OnId {
  po::variables_map values;
  std::string id;
  std::unique_ptr<DaemonClient> client;  // null: help was shown
};

Result<OnId> on_id(const CommandHelp& help, po::options_description options,
                   const Arguments& arguments) {
  options.add_options()("id", po::value<std::string>()->required(), "");
  add_control_option(options);
  EPOCHFS_TRY(auto parsed, parse_command(help, options, {"id"}, arguments));
  OnId out;
  out.values = parsed.values;
  if (parsed.help_shown) return out;
  out.id = parsed.values["id"].as<std::string>();
  EPOCHFS_TRY(out.client, DaemonClient::connect(control_socket(parsed.values)));
  return out;
}

Result<ExitStatus> authorize(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("replace-contents",
                        "accept although the target directory is not empty: what is in it will "
                        "be DELETED when the first epoch is applied");
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship authorize ID [--replace-contents]",
                              "Accepts, on the target host, that a source keeps a replica here."},
                             options, arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().authorizeRequest();
  request.setId(on.id);
  request.setReplaceContents(on.values.count("replace-contents") > 0);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> decline(const Arguments& arguments) {
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship decline ID",
                              "Refuses, on the target host, a relationship that was asked for."},
                             {}, arguments));
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
  EPOCHFS_TRY(OnId on, on_id(help, {}, arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().enableRequest();
  request.setId(on.id);
  request.setEnabled(enabled);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> edit(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("target-address", po::value<std::string>()->value_name("HOST"),
                        "new address of the target host")(
      "port", po::value<long>()->value_name("N"), "new port of its daemon")(
      "blackout", po::value<Strings>()->composing()->value_name("WINDOW"),
      "all windows anew; \"none\" for none")(
      "time-zone", po::value<std::string>()->value_name("ZONE"), "of the windows");
  add_interval_option(options);
  EPOCHFS_TRY(OnId on,
              on_id({"epochfs relationship edit ID [OPTIONS]",
                     "Changes address, port, blackout windows, time zone or interval on the "
                     "source host.\nSource and target directory are fixed."},
                    options, arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().editRequest();
  request.setId(on.id);
  auto change = request.initChange();
  if (on.values.count("target-address")) {
    change.setTargetAddress(on.values["target-address"].as<std::string>());
  }
  if (on.values.count("port")) {
    EPOCHFS_TRY(uint16_t port, port_of(on.values));
    change.setPort(port);
  }
  if (on.values.count("blackout")) {
    Relationship windows;
    EPOCHFS_TRY(windows.windows, windows_of(on.values));
    capnp::MallocMessageBuilder message;
    auto builder = message.initRoot<rpc::Relationship>();
    write_relationship(windows, builder);
    change.setSetBlackouts(true);
    change.setBlackouts(builder.getBlackouts());
  }
  if (on.values.count("time-zone")) change.setTimeZone(on.values["time-zone"].as<std::string>());
  if (on.values.count("interval")) {
    EPOCHFS_TRY(uint32_t interval_ms, interval_of(on.values));
    change.setIntervalMs(interval_ms);
  }
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> replicate(const Arguments& arguments) {
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship replicate ID",
                              "Cuts and ships an epoch now, without waiting for the interval."},
                             {}, arguments));
  if (!on.client) return ExitStatus::kOk;
  auto request = on.client->daemon().replicateRequest();
  request.setId(on.id);
  EPOCHFS_TRY(auto reply, on.client->call(request.send()));
  EPOCHFS_DO(read_failure(reply.getFailure()));
  return ExitStatus::kOk;
}

Result<ExitStatus> remove(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("yes,y", "do not ask");
  EPOCHFS_TRY(OnId on, on_id({"epochfs relationship delete ID [--yes]",
                              "Ends a relationship, on either host. The data stays where it is."},
                             options, arguments));
  if (!on.client) return ExitStatus::kOk;
  if (!on.values.count("yes")) {
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
