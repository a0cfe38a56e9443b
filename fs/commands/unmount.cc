// epochfs unmount DIR.
#include <errno.h>
#include <fmt/format.h>

#include "fs/base/mounts.h"
#include "fs/base/privileges.h"
#include "fs/commands/commands.h"
#include "journal/volume/volume.h"

namespace epochfs::fs {
namespace {

constexpr int kWaitMs = 60'000;  // for the process to end, once it is unmounted
constexpr size_t kHoldersShown = 5;

Error busy(const std::string& path, dev_t device) {
  std::vector<std::string> who = holders_of(device, kHoldersShown);
  for (const std::string& mount : mounts_below(path, kHoldersShown)) {
    who.push_back("the mount of " + mount);
  }
  if (who.empty()) who.emplace_back("nobody that can be seen from here");
  return {.what = fmt::format("unmount {}: it is in use by {}", path, fmt::join(who, ", ")),
          .code = EBUSY};
}

Result<void> unmount(const std::string& dir) {
  auto canonical = canonical_path(dir);
  if (!canonical) return fail("unmount " + canonical.error().what, canonical.error().code);
  const std::string& path = *canonical;
  EPOCHFS_TRY(auto mount, mount_at(path));
  if (!mount || mount->type != kMountType) {
    return fail(fmt::format("unmount {}: no epochfs is mounted there", path));
  }
  // A mount whose process is gone does not answer; then there is no process to wait for either.
  auto journal = journal::journal_path_of(path);
  if (int error = unmount_path(path, false); error != 0) {
    if (error == -EBUSY) return tl::unexpected(busy(path, mount->device));
    if (error == -EPERM) {
      return fail("unmount " + path + ": it takes root, or whoever mounted it and fusermount3",
                  EPERM);
    }
    return fail("unmount " + path, -error);
  }
  if (!journal) return {};
  EPOCHFS_TRY(journal::Volume volume, journal::Volume::open(*journal));
  EPOCHFS_TRY(bool ended, volume.wait_unlocked(kWaitMs));
  if (ended) return {};
  EPOCHFS_TRY(int pid, volume.holder());
  return fail(fmt::format("unmount {}: it is unmounted here, but process {} goes on: the file "
                          "system is mounted or in use elsewhere, or the disk takes its time to "
                          "write what is left",
                          path, pid),
              0, ExitStatus::kTimedOut);
}

}  // namespace

int unmount_command(const Arguments& arguments) {
  const CommandHelp help{
      "epochfs unmount DIR",
      "Unmounts an epochfs file system and waits until its process has written everything and\n"
      "ended. While something uses the mount, it stays, and whoever holds it is named.\n"
      "Exit status: 0 unmounted, 1 failed, 2 usage, 8 the process did not end."};
  auto parsed = parse_command(help, Options().argument("dir"), arguments);
  if (!parsed) return report(parsed.error());
  if (parsed->help_shown) return int(ExitStatus::kOk);
  auto done = unmount(parsed->text("dir"));
  return done ? int(ExitStatus::kOk) : report(done.error());
}

}  // namespace epochfs::fs
