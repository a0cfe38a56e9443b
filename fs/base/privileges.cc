#include "fs/base/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "fs/base/mounts.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {
namespace {

// Returns its exit status. What it prints is dropped, since the caller explains errors better.
int run_fusermount(const std::string& path, bool lazy) {
  std::string words[] = {"fusermount3", "-u", lazy ? "-z" : "-q", "--", path};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(),
                  words[3].data(), words[4].data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, words[0].c_str(), &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  if (error != 0 || ::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

bool has_capability(unsigned capability) {
  return ::capng_have_capability(CAPNG_EFFECTIVE, capability) != 0;
}

bool is_privileged() {
  return has_capability(CAP_SYS_ADMIN) && has_capability(CAP_DAC_READ_SEARCH);
}

std::vector<std::string> what_users_go_without(int descriptor_limit) {
  return {
      "other users: only the user who mounted can use it; mount as root for all",
      "set-user-id programs and device nodes: mounted nosuid and nodev",
      "replication: it opens files by handle, which takes root; epochs and the journal work",
      fmt::format("more than some {} files known at a time: each costs a descriptor (ulimit -n)",
                  descriptor_limit),
      "a private copy of the mount beneath: directories on which something is mounted are EXDEV",
      "waiting for mapped pages: an epoch has those that msync or fsync has written",
  };
}

std::string default_state_dir() {
  if (::geteuid() == 0) return journal::kDefaultStateDir;
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state && *state == '/') return std::string(state) + "/epochfs";
  const char* home = std::getenv("HOME");
  return home && *home == '/' ? std::string(home) + "/.local/state/epochfs"
                              : journal::kDefaultStateDir;
}

int unmount_path(const std::string& path, bool lazy) {
  if (::umount2(path.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return 0;
  if (errno != EPERM) return -errno;
  if (run_fusermount(path, lazy) == 0) return 0;
  // It gives its reason only in words. The usual one is that the mount is in use.
  auto mount = mount_at(path);
  const bool used = mount && *mount && !holders_of((*mount)->device, 1).empty();
  return used || !mounts_below(path, 1).empty() ? -EBUSY : -EPERM;
}

}  // namespace epochfs::fs
