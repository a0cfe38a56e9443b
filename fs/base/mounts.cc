#include "fs/base/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
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

#include "journal/base/unix.h"

namespace epochfs::fs {
namespace {

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

// "36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/root rw,errors=continue"
std::optional<MountEntry> parse_line(const std::string& line) {
  std::istringstream in(line);
  std::string id, parent, device, root, mountpoint, word;
  in >> id >> parent >> device >> root >> mountpoint;
  while (in >> word && word != "-") {
  }
  MountEntry entry;
  std::string source;
  if (!(in >> entry.type >> source)) return std::nullopt;
  unsigned major = 0, minor = 0;
  std::sscanf(device.c_str(), "%u:%u", &major, &minor);
  entry.device = makedev(major, minor);
  entry.mountpoint = unescape(mountpoint);
  entry.source = unescape(source);
  return entry;
}

template <typename F>
Result<void> for_each_mount(F&& f) {
  std::ifstream in("/proc/self/mountinfo");
  if (!in) return fail("read /proc/self/mountinfo; is /proc mounted?");
  for (std::string line; std::getline(in, line);) {
    if (auto entry = parse_line(line)) f(*entry);
  }
  return {};
}

// A process, as far as it is looked through.
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
    // What the kernel knows suffices: a file system that hangs must not hang us.
    if (::statx(AT_FDCWD, path(what).c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO,
                &a) != 0) {
      return false;
    }
    return makedev(a.stx_dev_major, a.stx_dev_minor) == device_;
  }

  std::string open_file() const {
    std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path("fd").c_str()), ::closedir);
    while (dirent* entry = dir ? ::readdir(dir.get()) : nullptr) {
      const std::string link = std::string("fd/") + entry->d_name;
      if (entry->d_name[0] == '.' || !is_on_device(link)) continue;
      char target[PATH_MAX];
      ssize_t size = ::readlink(path(link).c_str(), target, sizeof target);
      return size > 0 ? std::string(target, size_t(size)) : std::string("?");
    }
    return "";
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

Result<std::optional<MountEntry>> mount_at(const std::string& path) {
  std::optional<MountEntry> found;
  EPOCHFS_DO(for_each_mount([&](const MountEntry& entry) {
    if (entry.mountpoint == path) found = entry;  // later ones lie on top
  }));
  return found;
}

std::vector<std::string> mounts_below(const std::string& path, size_t limit) {
  std::vector<std::string> found;
  (void)for_each_mount([&](const MountEntry& entry) {
    if (entry.mountpoint.starts_with(path + "/") && found.size() < limit) {
      found.push_back(entry.mountpoint);
    }
  });
  return found;
}

Result<std::string> canonical_path(const std::string& path) {
  std::unique_ptr<char, void (*)(void*)> found(::realpath(path.c_str(), nullptr), std::free);
  if (found) return std::string(found.get());
  const int error = errno;
  if (!says_mount_is_gone(error)) return fail(path, error);
  // The last part is a mountpoint that nobody serves: go by the path as it was given.
  std::filesystem::path p = std::filesystem::absolute(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  found.reset(::realpath(p.parent_path().c_str(), nullptr));
  if (!found) return fail(path, error);
  return (std::filesystem::path(found.get()) / p.filename()).string();
}

std::vector<std::string> holders_of(dev_t device, size_t limit) {
  std::vector<std::string> holders;
  std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  while (dirent* entry = proc ? ::readdir(proc.get()) : nullptr) {
    const std::string pid = entry->d_name;
    if (!std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; })) continue;
    if (pid == std::to_string(::getpid())) continue;  // has it from whoever called
    Process process(pid, device);
    std::string how = process.hold();
    if (how.empty()) continue;
    holders.push_back(fmt::format("{} (process {}): {}", process.name(), pid, how));
    if (holders.size() == limit) break;
  }
  return holders;
}

}  // namespace epochfs::fs
