// Host: how does one machine play two? A Host is what a machine would be: a folder
// with its own state, control socket and directories, a loopback address of its own
// on which its daemon listens, and mounts. Knows nothing of relationships.
//
// Whatever happens to a test, nothing stays mounted or running, and no folder is left. The
// destructor sees to that. If the whole test program is killed, a small process that
// outlives it does. EPOCHFS_PROGRAM in the environment names the program under test.
//
// Not for several threads at once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/process.h"
#include "tests/support/expect.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {

using Arguments = std::vector<std::string>;

class Host {
 public:
  // Why none of this can run here, for GTEST_SKIP; nullopt: it can.
  static std::optional<std::string> why_not();

  explicit Host(std::string name);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  const std::string& folder() const { return folder_; }
  std::string operator/(const std::string& name) const { return folder_ + "/" + name; }
  std::string state() const { return *this / "state"; }
  std::string control() const { return *this / "control.sock"; }
  const std::string& address() const { return address_; }
  uint16_t port() const { return port_; }  // 0: its daemon was never started
  // Allocated below the folder, whatever for.
  uint64_t stored_bytes() const;
  // Makes a directory in the folder, and returns its path.
  std::string make_directory(const std::string& name);

  // ---- commands, as typed on this host ----

  Command command(const Arguments& arguments) const;
  Outcome epochfs(const Arguments& arguments, Milliseconds timeout = kPatience) const;
  // One that must succeed. Its stdout, without the last newline.
  std::string must(const Arguments& arguments, Milliseconds timeout = kPatience) const;

  // ---- the daemon ----

  // Returns when it listens, on the same port as before if it ran before.
  void start_daemon();
  void start_daemon_elsewhere();  // on another port
  void stop_daemon();             // as the administrator does; it must end well
  void kill_daemon();             // SIGKILL
  // It stops where it is, and goes on: a host that is very slow for a while.
  void freeze_daemon();
  void thaw_daemon();
  // Another address than the host's own, as --listen takes it and as others reach it.
  void listen_on(std::string listen, std::string address);
  pid_t daemon_process() const { return daemon_->pid(); }
  bool daemon_runs() const { return daemon_ && daemon_->running(); }
  std::string daemon_said() const;  // all of them, from the first

  // ---- mounts ----

  // What the command says on stderr.
  std::string mount(const std::string& directory, const Arguments& more = {});
  void unmount(const std::string& directory);
  // SIGKILL of the mount's process. Leaves the dead mount, as such a kill does.
  void kill_mount(const std::string& directory);
  pid_t mount_process(const std::string& directory) const;
  std::string journal(const std::string& directory) const;

  static constexpr Milliseconds kPatience{120'000};

 private:
  void start_guard();
  void clear_mounts();
  void print_daemon_log() const;

  std::string name_, folder_;
  std::string listen_, address_;  // the same, but for the brackets of IPv6
  uint16_t port_ = 0;
  UniqueFd guard_;  // its end tells the guard to tidy up
  pid_t guard_process_ = -1;
  std::unique_ptr<Background> daemon_;
  std::string earlier_daemons_said_;
  std::map<std::string, pid_t> mounts_;
};

// Directories at or below `folder` on which something is mounted, deepest first.
std::vector<std::string> mountpoints_below(const std::string& folder);

}  // namespace epochfs::testing
