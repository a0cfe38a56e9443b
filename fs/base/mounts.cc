#include "fs/base/mounts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libmount/libmount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "journal/base/directory.h"
#include "journal/base/unix.h"

namespace epochfs::fs {
namespace {

// A process that may hold a device.
class Process {
 public:
  Process(std::string pid, dev_t device) : pid_(std::move(pid)), device_(device) {}

  // How it holds the device; empty: not at all.
  std::string hold() const {
    if (is_on_device("cwd")) return "working directory";
    if (is_on_device("root")) return "root directory";
    if (is_on_device("exe")) return "program";
    if (std::string file = open_file(); !file.empty()) return "open file " + escape(file);
    return maps_device() ? "mapped file" : "";
  }

  std::string name() const {
    std::string name;
    std::ifstream in("/proc/" + pid_ + "/comm");
    std::getline(in, name);
    return escape(name);
  }

 private:
  std::string path(const std::string& what) const { return "/proc/" + pid_ + "/" + what; }

  bool is_on_device(const std::string& what) const {
    struct statx a;
    // Asks only for what the kernel already knows: a file system that hangs must not hang us.
    if (::statx(AT_FDCWD, path(what).c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO,
                &a) != 0) {
      return false;
    }
    return makedev(a.stx_dev_major, a.stx_dev_minor) == device_;
  }

  std::string open_file() const {
    std::string found;
    // A process that ends meanwhile holds nothing.
    if (auto dir = open_directory(path("fd"))) {
      [[maybe_unused]] auto read = for_each_entry(dir->get(), path("fd"), [&](const char* name) {
        const std::string link = std::string("fd/") + name;
        if (!found.empty() || !is_on_device(link)) return;
        char target[PATH_MAX];
        const ssize_t size = ::readlink(path(link).c_str(), target, sizeof target);
        found = size > 0 ? std::string(target, size_t(size)) : std::string("?");
      });
    }
    return found;
  }

  bool maps_device() const {
    const std::string wanted = fmt::format("{:02x}:{:02x}", major(device_), minor(device_));
    std::ifstream in(path("maps"));
    for (std::string line; std::getline(in, line);) {
      std::istringstream words(line);
      std::string range, mode, offset, device;
      if (words >> range >> mode >> offset >> device && device == wanted) return true;
    }
    return false;
  }

  const std::string pid_;
  const dev_t device_;
};

}  // namespace

Result<std::vector<MountEntry>> all_mounts() {
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      ::mnt_new_table_from_file("/proc/self/mountinfo"), ::mnt_unref_table);
  if (!table) return fail("read /proc/self/mountinfo; is /proc mounted?");
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> at(::mnt_new_iter(MNT_ITER_FORWARD),
                                                                ::mnt_free_iter);
  auto text = [](const char* value) { return std::string(value ? value : ""); };
  std::vector<MountEntry> mounts;
  for (libmnt_fs* fs = nullptr; ::mnt_table_next_fs(table.get(), at.get(), &fs) == 0;) {
    mounts.push_back({.mountpoint = text(::mnt_fs_get_target(fs)),
                      .type = text(::mnt_fs_get_fstype(fs)),
                      .source = text(::mnt_fs_get_source(fs)),
                      .device = ::mnt_fs_get_devno(fs)});
  }
  return mounts;
}

Result<std::optional<MountEntry>> mount_at(const std::string& path) {
  EPOCHFS_TRY(auto mounts, all_mounts());
  auto last = std::find_if(mounts.rbegin(), mounts.rend(),
                           [&](const MountEntry& entry) { return entry.mountpoint == path; });
  return last == mounts.rend() ? std::nullopt : std::optional(std::move(*last));
}

std::vector<std::string> mounts_below(const std::string& path, size_t limit) {
  std::vector<std::string> found;
  for (const MountEntry& entry : all_mounts().value_or(std::vector<MountEntry>())) {
    if (found.size() == limit) break;
    if (entry.mountpoint.starts_with(path + "/")) found.push_back(entry.mountpoint);
  }
  return found;
}

Result<std::string> canonical_path(const std::string& path) {
  std::unique_ptr<char, void (*)(void*)> found(::realpath(path.c_str(), nullptr), std::free);
  if (found) return std::string(found.get());
  const int error = errno;
  if (!says_mount_is_gone(error)) return fail(path, error);
  // The last part is a mountpoint that no process serves: keep it as it was given.
  std::filesystem::path p = std::filesystem::absolute(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  found.reset(::realpath(p.parent_path().c_str(), nullptr));
  if (!found) return fail(path, error);
  return (std::filesystem::path(found.get()) / p.filename()).string();
}

std::vector<std::string> holders_of(dev_t device, size_t limit) {
  std::vector<std::string> holders;
  auto proc = open_directory("/proc");
  if (!proc) return holders;
  const std::string own = std::to_string(::getpid());  // inherited from the caller
  [[maybe_unused]] auto read = for_each_entry(proc->get(), "/proc", [&](const std::string& pid) {
    if (holders.size() == limit || pid == own) return;
    if (!std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; })) return;
    Process process(pid, device);
    const std::string how = process.hold();
    if (how.empty()) return;
    holders.push_back(fmt::format("{} (process {}): {}", process.name(), pid, how));
  });
  return holders;
}

}  // namespace epochfs::fs
