// `epochfs serve`.
#include <fmt/format.h>

#include "journal/volume/volume.h"
#include "replicator/commands/client.h"
#include "replicator/commands/commands.h"
#include "replicator/daemon/daemon.h"
#include "replicator/relationship/relationship.h"

namespace epochfs::replicator {
namespace {

const CommandHelp kHelp = {
    "epochfs serve [--state PATH] [--listen ADDRESS:PORT] [--control SOCKET] [--console off]",
    "Runs the daemon of this host: replicates from mounted directories, and takes replicas\n"
    "that the administrator has authorized. Stops on SIGTERM or SIGINT; what was under way\n"
    "goes on after the next start."};

Result<DaemonSettings> settings_of(const Parsed& given) {
  DaemonSettings s;
  s.state = given.text("state");
  s.control = control_socket(given);
  EPOCHFS_TRY(s.listen, parse_listen_address(given.text("listen"), kDefaultPort));
  if (auto console = given.text("console"); console != "off") {
    return fail("option --console: the web page is not part of this version; write off", 0,
                ExitStatus::kUsage);
  }
  return s;
}

}  // namespace

int serve_command(const Arguments& arguments) {
  Options options;
  options.text("state", "PATH", "where relationships are kept", journal::kDefaultStateDir)
      .text("listen", "ADDRESS:PORT", "where sources reach this host",
            fmt::format("127.0.0.1:{}", kDefaultPort))
      .text("console", "ADDRESS:PORT|off", "the web page", "off");
  add_control_option(options);
  auto parsed = parse_command(kHelp, options, arguments);
  if (!parsed) return report(parsed.error());
  if (parsed->help_shown) return 0;
  auto settings = settings_of(*parsed);
  if (!settings) return report(settings.error());
  auto outcome = serve(*settings);
  return outcome ? 0 : report(outcome.error());
}

}  // namespace epochfs::replicator
