#include "tests/e2e/power_cut_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cstdlib>

#include "journal/base/unix.h"
#include "tests/e2e/disk.h"
#include "tests/support/failure.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr Milliseconds kPatience{120'000};
constexpr const char* kOuterSize = "3G";  // sparse, all of it
constexpr const char* kInnerSize = "600M";

// Memory, where there is some: nothing that happens to it is to last.
std::string folder_for_images() {
  const char* given = std::getenv("TMPDIR");
  if (given && *given) return given;
  return ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/var/tmp";
}

}  // namespace

std::optional<std::string> PowerCutDisk::why_not(const std::string& type) {
  for (const std::string& program :
       {std::string("mkfs.xfs"), "mkfs." + type, std::string("losetup"), std::string("truncate")}) {
    if (auto why = Disk::why_not(program)) return why;
  }
  if (run({.argv = {"losetup", "--find"}}, kPatience).status != 0) return "no loop device is free";
  return std::nullopt;
}

PowerCutDisk::PowerCutDisk(Host& host, const std::string& name, const std::string& type)
    : type_(type) {
  outer_ = host.make_directory(name + "-images");
  path_ = host.make_directory(name);
  std::string image = folder_for_images() + "/epochfs-disk.XXXXXX";
  UniqueFd made(::mkstemp(image.data()));
  if (!made) throw_errno("make " + image);
  try {
    must_run({"truncate", "--size", kOuterSize, image});
    make_file_system({"mkfs.xfs", "-q", "-m", "reflink=1"}, image);
    must_run({"mount", "-o", "loop", image, outer_});
  } catch (...) {
    ::unlink(image.c_str());
    throw;
  }
  ::unlink(image.c_str());
  must_run({"truncate", "--size", kInnerSize, outer_ + "/disk"});
  make_file_system({"mkfs." + type, "-q"}, outer_ + "/disk");
  loop_ = must_run({"losetup", "--find", "--show", outer_ + "/disk"});
  attach();
}

// From now on the loop device goes with the mount.
void PowerCutDisk::attach() {
  const Outcome mounted = run({.argv = {"mount", "-t", type_, loop_, path_}}, kPatience);
  must_run({"losetup", "--detach", loop_});
  if (mounted.status != 0) throw Failure("mount " + loop_ + ": " + mounted.err);
}

void PowerCutDisk::cut() {
  UniqueFd from(::open((outer_ + "/disk").c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd to(::open((outer_ + "/cut").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!from || !to) throw_errno("open images");
  if (::ioctl(to.get(), FICLONE, from.get()) != 0) throw_errno("clone the image");
}

void PowerCutDisk::restart() {
  eventually(path_ + " is no longer in use", [&] {
    return run({.argv = {"umount", path_}}, kPatience).status == 0;
  });
  must_run({"mv", outer_ + "/cut", outer_ + "/disk"});
  // The same device again: XFS tells its file systems apart by that.
  eventually(loop_ + " is free", [&] {
    return run({.argv = {"losetup", loop_, outer_ + "/disk"}}, kPatience).status == 0;
  });
  attach();
}

}  // namespace epochfs::testing
