#include "tests/e2e/disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/host.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr Milliseconds kPatience{120'000};

}  // namespace

std::string must_run(std::vector<std::string> argv) {
  const Command command{.argv = std::move(argv)};
  Outcome outcome = testing::run(command, kPatience);
  if (outcome.status != 0) throw Failure(as_typed(command) + ": " + outcome.err);
  if (outcome.out.ends_with("\n")) outcome.out.pop_back();
  return outcome.out;
}

void make_file_system(std::vector<std::string> mkfs, const std::string& image) {
  mkfs.push_back(image);
  const Command command{.argv = std::move(mkfs)};
  // mkfs.btrfs looks at every mount of the machine, and gives up where it finds one whose
  // program another test has just killed.
  Outcome outcome;
  eventually(as_typed(command) + " finds no dead mount", [&] {
    outcome = testing::run(command, kPatience);
    return outcome.err.find("Transport endpoint is not connected") == std::string::npos;
  });
  if (outcome.status != 0) throw Failure(as_typed(command) + ": " + outcome.err);
}

std::optional<std::string> Disk::why_not(const std::string& tool) {
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) return "there are no loop devices";
  const std::string look = "command -v " + tool;
  if (testing::run({.argv = {"sh", "-c", look}}, kPatience).status != 0) {
    return "there is no " + tool;
  }
  return std::nullopt;
}

Disk::Disk(const std::string& folder, const std::string& name, uint64_t bytes,
           std::vector<std::string> make, const std::string& options)
    : path_(folder + "/" + name) {
  const std::string image = path_ + ".image";
  UniqueFd file(::open(image.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), off_t(bytes)) != 0) throw_errno("make " + image);
  make_file_system(std::move(make), image);
  testing::make_directory(path_);
  // The loop device goes with the mount.
  must_run({"mount", "-o", "loop" + (options.empty() ? "" : "," + options), image, path_});
}

Disk::~Disk() {
  if (::umount2(path_.c_str(), UMOUNT_NOFOLLOW) != 0) ::umount2(path_.c_str(), MNT_DETACH);
}

std::string Disk::device() const {
  return must_run({"findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", path_});
}

bool Disk::remount(const std::string& option) {
  const unsigned long flags = option == "ro" ? MS_REMOUNT | MS_RDONLY : MS_REMOUNT;
  if (::mount(nullptr, path_.c_str(), nullptr, flags, nullptr) == 0) return true;
  if (errno != EBUSY) throw_errno("remount " + path_);
  return false;
}

}  // namespace epochfs::testing
