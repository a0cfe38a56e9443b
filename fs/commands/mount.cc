// epochfs mount DIR: reads options, goes to the background, and says what is in force.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "fs/base/privileges.h"
#include "fs/commands/commands.h"
#include "fs/process/mount_process.h"
#include "journal/base/logging.h"

namespace epochfs::fs {
namespace {

const CommandHelp kHelp{
    "epochfs mount DIR [--backing PATH] [--state PATH] [--journal PATH] [-o OPTIONS] "
    "[--foreground]",
    "Mounts DIR over itself (or PATH on DIR) and records from then on every change of it in a\n"
    "journal. Returns when the mount is usable. The data stays where it is.\n"
    "Without root it mounts a directory of one's own through fusermount3, for oneself only: no\n"
    "replication, no set-user-id programs, and a descriptor for every file in use or known; it\n"
    "says at its start what it goes without.\n"
    "Exit status: 0 mounted, 1 failed, 2 usage, 5 journal corrupt."};

struct CommandLine {
  MountRequest request;
  bool foreground = false;
  bool help_shown = false;
};

Result<CommandLine> parse(const Arguments& arguments) {
  Options options;
  options.argument("dir")
      .text("backing", "PATH", "directory that holds the data", "", "DIR")
      .text("state", "PATH", "state directory, where journals are", default_state_dir())
      .text("journal", "PATH", "journal folder; made if it is not there", "", "in the state")
      .texts("options,o", "OPTIONS",
             "mount options, with commas between them: nosuid, nodev, noexec;\n"
             "writeback: the kernel gathers small writes;\n"
             "wakeup=adaptive|always|never: idle cores are kept from halting;\n"
             "transport=io_uring|device: how requests come, where the kernel has both;\n"
             "journal-quota, when-full, journal-keep, journal-keep-for: as below")
      .text("journal-quota", "SIZE",
            "what journal, checkpoints and pre-images may take up together (20G; 0: no bound)")
      .text("when-full", "degrade|block",
            "what gives way there: how exactly changes are told, or the applications")
      .text("journal-keep", "SIZE",
            "records that nobody needs any more are kept to be looked at: so much of them (256M),")
      .text("journal-keep-for", "TIME", "and for so long (12h, 30d; for ever)")
      .flag("foreground,f", "stay, instead of going to the background");
  EPOCHFS_TRY(Parsed parsed, parse_command(kHelp, options, arguments));
  CommandLine line;
  line.help_shown = parsed.help_shown;
  if (line.help_shown) return line;
  // The process changes to another directory.
  auto path = [&](const char* name) {
    const std::string given = parsed.text(name);
    return given.empty() ? given : std::filesystem::absolute(given).lexically_normal().string();
  };
  line.foreground = parsed.has("foreground");
  line.request = {.dir = parsed.text("dir"),
                  .backing = parsed.text("backing"),
                  .state = path("state"),
                  .journal = path("journal")};
  // The same as -o NAME=VALUE, which /etc/fstab takes.
  std::vector<std::string> given = parsed.texts("options");
  for (const char* name : {"journal-quota", "when-full", "journal-keep", "journal-keep-for"}) {
    if (parsed.has(name)) given.push_back(fmt::format("{}={}", name, parsed.text(name)));
  }
  EPOCHFS_TRY(line.request.options, parse_mount_options(given));
  return line;
}

// What recovery did about files that may have lost bytes in a power cut.
std::string suspects_text(const journal::RecoveryReport& recovery) {
  if (!recovery.machine_stopped) return "";
  const std::string how_many = recovery.all_suspect ? "any" : std::to_string(recovery.suspects);
  std::string text = fmt::format(
      ", and relationships will reconcile; bytes of {} files may be "
      "missing: they have a new ctime and are compared",
      how_many);
  if (recovery.suspects_unmarked > 0) {
    text += fmt::format("; {} more could not be given one: compare them by hand, or touch them",
                        recovery.suspects_unmarked);
  }
  return text;
}

std::string joined(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, ", "));
}

void say_mounted(const MountProcess& process) {
  const journal::RecoveryReport& recovery = process.recovery();
  if (!recovery.clean) {
    std::cerr << fmt::format("epochfs: {} was not unmounted cleanly; its journal is recovered{}\n",
                             process.mountpoint(), suspects_text(recovery));
  }
  if (process.damage()) {
    std::cerr << fmt::format(
        "epochfs: {}; what it told is gone, and relationships that needed it "
        "will reconcile\n",
        process.damage()->message());
  }
  const Filesystem& fs = process.filesystem();
  std::cerr << fmt::format("epochfs: {} is mounted, with its journal in {}\n", process.mountpoint(),
                           process.volume().path());
  std::cerr << fmt::format("epochfs: in force: {}\n", joined(fs.features));
  for (const std::string& missing : fs.missing) {
    std::cerr << fmt::format("epochfs: not in force: {}\n", missing);
  }
  std::cerr.flush();
}

// The process that started the mount must not wait for our end of its pipes.
void let_go_of_terminal() {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  for (int fd : {0, 1, 2}) ::dup2(null.get(), fd);
}

// Runs the mount to its end. Returns the exit status.
int serve(const MountRequest& request, const std::function<void()>& usable) {
  log::begin("mount");
  auto process = MountProcess::prepare(request);
  if (!process) return report(process.error());
  auto served = (*process)->serve([&](const MountProcess& mounted) {
    say_mounted(mounted);
    usable();
  });
  return served ? int(ExitStatus::kOk) : report(served.error());
}

// The parent's part: waits until the mount is usable, or for the child's exit status.
int wait_for(pid_t child, UniqueFd ready) {
  uint8_t status = 0;
  ssize_t n;
  do {
    n = ::read(ready.get(), &status, 1);
  } while (n < 0 && errno == EINTR);
  if (n == 1) return status;
  int ended = 0;
  ::waitpid(child, &ended, 0);
  const std::string how = WIFSIGNALED(ended) ? fmt::format("killed by signal {}", WTERMSIG(ended))
                                             : fmt::format("status {}", WEXITSTATUS(ended));
  return report({.what = "the mount's process ended before the mount was usable: " + how});
}

int serve_in_background(const MountRequest& request) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return report(fail_errno("make a pipe").value());
  UniqueFd ready(ends[0]), usable(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return report(fail_errno("start the mount's process").value());
  if (child > 0) {
    usable.reset();
    return wait_for(child, std::move(ready));
  }
  ready.reset();
  ::setsid();
  auto tell = [&](int status) {
    const uint8_t byte = uint8_t(status);
    if (usable && ::write(usable.get(), &byte, 1) != 1) return;  // the parent is gone
    usable.reset();
  };
  int status = serve(request, [&] {
    let_go_of_terminal();
    tell(0);
  });
  tell(status);
  std::cerr.flush();
  // What is shared with the parent is not ours to flush or to destroy.
  ::_exit(status);
}

}  // namespace

int mount_command(const Arguments& arguments) {
  auto line = parse(arguments);
  if (!line) return report(line.error());
  if (line->help_shown) return int(ExitStatus::kOk);
  return line->foreground ? serve(line->request, [] {}) : serve_in_background(line->request);
}

}  // namespace epochfs::fs
