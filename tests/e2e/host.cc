#include "tests/e2e/host.h"
#include "tests/support/expect.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/waiting.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

namespace epochfs::testing {
namespace {

constexpr Milliseconds kStart{30'000};
constexpr Milliseconds kPoll{10};

// Runs once its stdin ends, which is when the test program has: unmounts and removes
// what is left of the folder. In a session of its own, so that what ends the test
// program's group does not end it.
constexpr const char* kGuard =
    "read -r nothing; "
    "while read -r _ _ _ _ at _; do case $at in \"$1\"/*) umount -l \"$at\";; esac; "
    "done </proc/self/mountinfo; "
    "exec rm -rf --one-file-system -- \"$1\"";

std::string program() {
  const char* path = std::getenv("EPOCHFS_PROGRAM");
  if (!path || !*path) throw Failure("EPOCHFS_PROGRAM does not name the program to test");
  return path;
}

std::string temporary_folder(const std::string& name) {
  const std::string path = make_temporary_directory("epochfs-e2e-" + name);
  // As others see it: parents of what they may use must let them pass.
  if (::chmod(path.c_str(), 0755) != 0) throw_errno("change mode of " + path);
  return path;
}

// No other host has it, in whichever test program on this machine.
std::string loopback_address() {
  static unsigned hosts = 0;
  const unsigned number = (unsigned(::getpid()) << 2 | (++hosts & 3)) & 0xffffff;
  return fmt::format("127.{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff);
}

bool has_capability(int capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  ::syscall(SYS_capget, &header, data);
  return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string unescape(const std::string& field) {
  std::string out;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      out += char(std::stoi(field.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += field[i];
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> mountpoints_below(const std::string& folder) {
  std::vector<std::string> found;
  std::ifstream in("/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string skipped, path;
    words >> skipped >> skipped >> skipped >> skipped >> path;
    path = unescape(path);
    if (path == folder || path.starts_with(folder + "/")) found.push_back(path);
  }
  std::reverse(found.begin(), found.end());
  return found;
}

std::optional<std::string> Host::why_not() {
  if (::geteuid() != 0) return "mounts, owners and device nodes need root";
  if (!has_capability(CAP_SYS_ADMIN)) return "mounting needs CAP_SYS_ADMIN";
  if (!has_capability(CAP_DAC_READ_SEARCH)) return "the mount needs CAP_DAC_READ_SEARCH";
  if (UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC)); !device) {
    return fmt::format("/dev/fuse cannot be opened: {}", std::strerror(errno));
  }
  return std::nullopt;
}

Host::Host(std::string name) : name_(std::move(name)) {
  program();
  // Mounts put themselves into the background; this makes them children of ours still.
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) throw_errno("adopt what mounts leave behind");
  folder_ = temporary_folder(name_);
  listen_ = address_ = loopback_address();
  start_guard();
}

Host::~Host() {
  if (::testing::Test::HasFailure()) print_daemon_log();
  daemon_.reset();
  try {
    clear_mounts();
    run({.argv = {"rm", "-rf", "--one-file-system", "--", folder_}}, Milliseconds(600'000));
  } catch (const Failure& failure) {
    ADD_FAILURE() << "tidy up host " << name_ << ": " << failure.what();
  }
  guard_.reset();
  if (guard_process_ > 0) ::waitpid(guard_process_, nullptr, 0);
}

void Host::start_guard() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("make a pipe");
  UniqueFd read(ends[0]);
  guard_.reset(ends[1]);
  guard_process_ = ::fork();
  if (guard_process_ < 0) throw_errno("start the guard");
  if (guard_process_ > 0) return;
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(read.get(), 0);
  ::dup2(null, 1);
  ::dup2(null, 2);
  ::execlp("sh", "sh", "-c", kGuard, "epochfs-test-guard", folder_.c_str(), nullptr);
  ::_exit(127);
}

void Host::clear_mounts() {
  for (const std::string& directory : mountpoints_below(folder_)) {
    if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0) continue;
    ::umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  }
  for (const auto& [directory, process] : mounts_) {
    if (wait_for_end(process, Milliseconds(20'000))) continue;
    ADD_FAILURE() << "process " << process << " outlives its mount on " << directory;
    ::kill(process, SIGKILL);
    wait_for_end(process, Milliseconds(20'000));
  }
}

std::string Host::make_directory(const std::string& name) {
  const std::string path = *this / name;
  if (::mkdir(path.c_str(), 0755) != 0) throw_errno("make directory " + path);
  return path;
}

uint64_t Host::stored_bytes() const {
  const Outcome du = run({.argv = {"du", "-s", "-B1", folder_}}, kPatience);
  return std::strtoull(du.out.c_str(), nullptr, 10);
}

// ---- commands ----

Command Host::command(const Arguments& arguments) const {
  Command command{.argv = {program()}, .environment = {{"EPOCHFS_CONTROL", control()}}};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  return command;
}

Outcome Host::epochfs(const Arguments& arguments, Milliseconds timeout) const {
  return run(command(arguments), timeout);
}

std::string Host::must(const Arguments& arguments, Milliseconds timeout) const {
  Outcome outcome = epochfs(arguments, timeout);
  if (outcome.status != 0) {
    throw Failure(fmt::format("{}: {}: exit status {}\n{}{}", name_, as_typed(command(arguments)),
                              outcome.status, outcome.timed_out ? "(timed out)\n" : "",
                              outcome.err));
  }
  if (outcome.out.ends_with("\n")) outcome.out.pop_back();
  return outcome.out;
}

// ---- the daemon ----

void Host::start_daemon() {
  kill_daemon();
  daemon_ = std::make_unique<Background>(
      command({"serve", "--state", state(), "--listen", fmt::format("{}:{}", listen_, port_),
               "--control", control(), "--console", "off"}));
  auto line = daemon_->wait_for_line(" listening address=", kStart);
  // "... listening address=ADDRESS:PORT control=SOCKET"
  const std::string place = line ? line->substr(0, line->find(" control=")) : "";
  unsigned port = 0;
  if (std::sscanf(place.c_str() + place.rfind(':') + 1, "%u", &port) != 1) {
    throw Failure("the daemon of host " + name_ + " does not listen:\n" + daemon_->said());
  }
  port_ = uint16_t(port);
}

void Host::start_daemon_elsewhere() {
  const uint16_t before = std::exchange(port_, 0);
  start_daemon();
  if (port_ == before) throw Failure("the kernel gave the same port once more");
}

void Host::listen_on(std::string listen, std::string address) {
  listen_ = std::move(listen);
  address_ = std::move(address);
}

void Host::stop_daemon() {
  if (!daemon_) return;
  daemon_->signal(SIGTERM);
  auto status = daemon_->wait(kStart);
  earlier_daemons_said_ += daemon_->said();
  daemon_.reset();
  if (!status) throw Failure("the daemon of host " + name_ + " does not end on SIGTERM");
  EXPECT_EQ(*status, 0) << "of the daemon of host " << name_;
}

void Host::kill_daemon() {
  if (!daemon_) return;
  EXPECT_TRUE(daemon_->running()) << "the daemon of host " << name_ << " ended by itself:\n"
                                  << daemon_->said();
  daemon_->kill();
  earlier_daemons_said_ += daemon_->said();
  daemon_.reset();
}

void Host::freeze_daemon() { daemon_->signal(SIGSTOP); }
void Host::thaw_daemon() { daemon_->signal(SIGCONT); }

std::string Host::daemon_said() const {
  return earlier_daemons_said_ + (daemon_ ? daemon_->said() : "");
}

void Host::print_daemon_log() const {
  constexpr size_t kShown = 4000;
  std::string said = daemon_said();
  if (said.size() > kShown) said = "..." + said.substr(said.size() - kShown);
  if (!said.empty()) fmt::print("---- the daemon of host {} said:\n{}----\n", name_, said);
  std::fflush(stdout);
}

// ---- mounts ----

std::string Host::mount(const std::string& directory, const Arguments& more) {
  Arguments arguments = {"mount", directory, "--state", state()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Outcome outcome = epochfs(arguments);
  if (outcome.status != 0) {
    throw Failure(fmt::format("{}: {}: exit status {}\n{}", name_, as_typed(command(arguments)),
                              outcome.status, outcome.err));
  }
  mounts_[directory] = mount_process(directory);
  return outcome.err;
}

void Host::unmount(const std::string& directory) {
  must({"unmount", directory});
  auto mounted = mountpoints_below(directory);
  if (std::find(mounted.begin(), mounted.end(), directory) != mounted.end()) {
    throw Failure("unmount returned, but " + directory + " is still mounted");
  }
  auto process = mounts_.find(directory);
  if (process == mounts_.end()) return;
  auto status = wait_for_end(process->second, Milliseconds(1000));
  mounts_.erase(process);
  if (!status) throw Failure("unmount returned, but the mount's process still runs");
  EXPECT_EQ(*status, 0) << "of the mount of " << directory;
}

void Host::kill_mount(const std::string& directory) {
  auto process = mounts_.find(directory);
  if (process == mounts_.end()) throw Failure(directory + " is not mounted");
  const pid_t pid = process->second;
  mounts_.erase(process);
  ::kill(pid, SIGKILL);
  auto status = wait_for_end(pid, Milliseconds(60'000));
  if (status != 128 + SIGKILL) {
    throw Failure(fmt::format("the mount of {} had ended before it was killed, with status {}",
                              directory, status.value_or(-1)));
  }
}

std::string Host::journal(const std::string& directory) const {
  char path[PATH_MAX];
  const ssize_t size = ::getxattr(directory.c_str(), "user.epochfs.journal", path, sizeof path);
  if (size < 0) throw_errno("ask for the journal of " + directory);
  return std::string(path, size_t(size));
}

pid_t Host::mount_process(const std::string& directory) const {
  std::ifstream lock(journal(directory) + "/lock");
  pid_t pid = 0;
  if (!(lock >> pid) || pid <= 0) throw Failure("no process holds the journal of " + directory);
  return pid;
}

}  // namespace epochfs::testing
