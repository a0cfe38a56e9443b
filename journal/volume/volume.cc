#include "journal/volume/volume.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <xxhash.h>

#include <chrono>
#include <climits>
#include <cstring>

#include "journal/base/directory.h"
#include "journal/base/regular_file.h"

namespace epochfs::journal {
namespace {

constexpr const char* kStateFormatFile = "format";
constexpr const char* kVolumesDir = "volumes";

// The `volume` file, FORMAT.md. The backing path follows.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t path_bytes;
  uint64_t checksum;  // of everything after it
  uint8_t lineage[16];
  uint64_t filesystem, root_inode, root_birth_ns;
  uint64_t created_ns;
  uint64_t segment_bytes;
};
static_assert(sizeof(Header) == kVolumeHeaderBytes);
static_assert(kMaxBackingPathBytes == PATH_MAX);

uint64_t checksum(std::string_view bytes) {
  constexpr size_t after = offsetof(Header, checksum) + sizeof(uint64_t);
  return XXH3_64bits(bytes.data() + after, bytes.size() - after);
}

std::string encode(const VolumeInfo& info) {
  Header h{};
  set_magic(h.magic, kVolumeMagic);
  h.version = kStateFormatVersion;
  h.path_bytes = static_cast<uint32_t>(info.backing_path.size());
  std::memcpy(h.lineage, info.lineage.bytes.data(), sizeof h.lineage);
  h.filesystem = info.identity.filesystem;
  h.root_inode = info.identity.root.inode;
  h.root_birth_ns = info.identity.root.birth_ns;
  h.created_ns = info.created_ns;
  h.segment_bytes = info.segment_bytes;
  std::string bytes(reinterpret_cast<const char*>(&h), sizeof h);
  bytes += info.backing_path;
  h.checksum = checksum(bytes);
  std::memcpy(bytes.data() + offsetof(Header, checksum), &h.checksum, sizeof h.checksum);
  return bytes;
}

Result<VolumeInfo> decode(const std::string& bytes, const std::string& path) {
  auto damaged = [&](const char* why) {
    return fail(fmt::format("read {}/{}: {}", path, kVolumeFile, why), 0, ExitStatus::kCorrupt);
  };
  Header h;
  if (bytes.size() < sizeof h) return damaged("too short");
  std::memcpy(&h, bytes.data(), sizeof h);
  if (!has_magic(h.magic, kVolumeMagic)) return damaged("not a journal");
  if (h.version == 0) return damaged("no format version");
  if (h.version > kStateFormatVersion) {
    return fail(
        fmt::format("open journal {}: it has format version {}, this program knows up to "
                    "{}; use a newer epochfs",
                    path, h.version, kStateFormatVersion));
  }
  if (bytes.size() != sizeof h + h.path_bytes) return damaged("wrong length");
  if (h.checksum != checksum(bytes)) return damaged("bad checksum");
  if (h.segment_bytes < kMinSegmentBytes || h.segment_bytes > kMaxSegmentBytes ||
      h.segment_bytes % kSegmentGrainBytes != 0) {
    return damaged("segment size out of range");
  }
  VolumeInfo info;
  std::memcpy(info.lineage.bytes.data(), h.lineage, sizeof h.lineage);
  info.identity = {h.filesystem, {h.root_inode, h.root_birth_ns}};
  info.created_ns = h.created_ns;
  info.segment_bytes = h.segment_bytes;
  info.backing_path = bytes.substr(sizeof h);
  return info;
}

// Like mkdir -p. Every directory that it makes is private to root.
Result<void> make_directories(const std::string& path) {
  for (size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    std::string part = path.substr(0, at);
    if (!part.empty() && ::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return fail_errno("make directory " + part);
    }
    if (at != std::string::npos) ++at;
  }
  return {};
}

Result<void> make_subdirectory(int dir, const char* name) {
  if (::mkdirat(dir, name, 0700) != 0 && errno != EEXIST) {
    return fail_errno(fmt::format("make directory {}", name));
  }
  return {};
}

// On a copy-on-write file system even reserved blocks are allocated anew when they are written, and
// a full disk would end the process with SIGBUS. File systems that do not know the flag, which are
// most, have no such danger.
void forbid_copy_on_write(int dir) {
  int flags = 0;
  if (::ioctl(dir, FS_IOC_GETFLAGS, &flags) != 0) return;
  flags |= FS_NOCOW_FL;
  ::ioctl(dir, FS_IOC_SETFLAGS, &flags);
}

// Refuses a folder that holds anything other than the remains of a create() that was cut short.
Result<void> check_unused(int folder, const std::string& path) {
  const std::string unfinished = std::string(kVolumeFile) + ".new";
  return for_each_entry(folder, path, [&](std::string_view name) -> Result<void> {
    if (name == kSegmentsDir || name == kCursorsDir || name == kPreimagesDir ||
        name == unfinished) {
      return {};
    }
    return fail(fmt::format("make journal {}: the folder is not empty; name one that is", path),
                ENOTEMPTY);
  });
}

// A lock on the whole file, owned by the open file description: like flock(2), it ends with the
// last descriptor. Unlike flock(2), it can be asked about without being taken.
struct flock whole_file_lock() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

// Anybody can give a directory of their own the extended attribute that a mount answers.
bool is_fuse_mount(const std::string& path) {
  struct statfs fs;
  struct statx a;
  return ::statfs(path.c_str(), &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC &&
         ::statx(AT_FDCWD, path.c_str(), 0, STATX_BASIC_STATS, &a) == 0 &&
         (a.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

Result<VolumeIdentity> identify_volume(int backing_dir) {
  struct statfs fs;
  if (::fstatfs(backing_dir, &fs) != 0) return fail_errno("statfs backing directory");
  struct statx a;
  FileHandle handle;
  if (int code = identify(backing_dir, "", a, handle); code != 0) {
    return fail("identify backing directory by handle", -code);
  }
  VolumeIdentity identity;
  static_assert(sizeof fs.f_fsid == sizeof identity.filesystem);
  std::memcpy(&identity.filesystem, &fs.f_fsid, sizeof identity.filesystem);
  identity.root = file_id(a);
  return identity;
}

Result<void> prepare_state_dir(Storage& storage, const std::string& path) {
  EPOCHFS_DO(make_directories(path));
  EPOCHFS_TRY(UniqueFd dir, open_directory(path));
  auto format = read_file(dir.get(), kStateFormatFile, 64);
  if (!format && format.error().code == ENOENT) {
    EPOCHFS_DO(make_subdirectory(dir.get(), kVolumesDir));
    return storage.replace_file("state-format", dir.get(), kStateFormatFile,
                                fmt::format("epochfs state {}\n", kStateFormatVersion));
  }
  if (!format) return tl::unexpected(format.error());
  unsigned version = 0;
  if (std::sscanf(format->c_str(), "epochfs state %u", &version) != 1 || version == 0) {
    return fail(
        fmt::format("read {}/{}: not the state directory of epochfs; name another with "
                    "--state",
                    path, kStateFormatFile));
  }
  if (version > kStateFormatVersion) {
    return fail(
        fmt::format("open state directory {}: it has format version {}, this program knows "
                    "up to {}; use a newer epochfs or another --state",
                    path, version, kStateFormatVersion));
  }
  return make_subdirectory(dir.get(), kVolumesDir);
}

Result<std::optional<Volume>> find_volume(const std::string& state_path,
                                          const VolumeIdentity& identity) {
  const std::string volumes = state_path + "/" + kVolumesDir;
  EPOCHFS_TRY(UniqueFd dir, open_directory(volumes));
  std::optional<Volume> found;
  EPOCHFS_DO(for_each_entry(dir.get(), volumes, [&](const char* name) -> Result<void> {
    Uuid lineage;
    if (found || !Uuid::parse(name, lineage)) return {};
    auto volume = Volume::open(volumes + "/" + name);
    if (!volume) {
      // A folder has no volume file if its making was cut short.
      if (volume.error().code == ENOENT) return {};
      return tl::unexpected(volume.error());
    }
    if (volume->info().identity == identity) found = *std::move(volume);
    return {};
  }));
  return found;
}

Result<Volume> Volume::open(const std::string& path) {
  Volume volume;
  volume.path_ = path;
  EPOCHFS_TRY(volume.dir_, open_directory(path));
  EPOCHFS_TRY(std::string bytes,
              read_file(volume.dir(), kVolumeFile, sizeof(Header) + kMaxBackingPathBytes));
  EPOCHFS_TRY(volume.info_, decode(bytes, path));
  return volume;
}

Result<Volume> Volume::create(Storage& storage, const std::string& path, const VolumeInfo& info) {
  EPOCHFS_DO(make_directories(path));
  EPOCHFS_TRY(UniqueFd dir, open_directory(path));
  EPOCHFS_DO(check_unused(dir.get(), path));
  for (const char* name : {kSegmentsDir, kCursorsDir, kPreimagesDir}) {
    EPOCHFS_DO(make_subdirectory(dir.get(), name));
  }
  EPOCHFS_TRY(UniqueFd segments, open_directory(dir.get(), kSegmentsDir));
  forbid_copy_on_write(segments.get());
  EPOCHFS_DO(storage.replace_file("volume", dir.get(), kVolumeFile, encode(info)));
  EPOCHFS_TRY(UniqueFd parent, open_directory(path + "/.."));
  EPOCHFS_DO(storage.sync_directory("volume-parent", parent.get(), path));
  return open(path);
}

Result<bool> Volume::lock() {
  UniqueFd fd(::openat(dir(), kLockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("open lock of journal " + path_);
  struct flock wanted = whole_file_lock();
  if (::fcntl(fd.get(), F_OFD_SETLK, &wanted) != 0) {
    if (errno == EAGAIN || errno == EACCES) return false;
    return fail_errno("lock journal " + path_);
  }
  // For processes that wait, and for people.
  std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd.get(), 0) != 0) return fail_errno("write lock of journal " + path_);
  EPOCHFS_DO(pwrite_full(fd.get(), pid.data(), pid.size(), 0, "lock of journal " + path_));
  lock_ = std::move(fd);
  return true;
}

Result<int> Volume::holder() const {
  EPOCHFS_TRY(std::string text, read_file(dir(), kLockFile, 32));
  int pid = 0;
  if (std::sscanf(text.c_str(), "%d", &pid) != 1 || pid <= 0) return 0;
  return pid;
}

Result<bool> Volume::wait_unlocked(int timeout_ms) const {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    auto file = open_regular(dir(), kLockFile);
    if (!file && file.error().code == ENOENT) return true;
    EPOCHFS_TRY(UniqueFd fd, std::move(file));
    struct flock held = whole_file_lock();
    if (::fcntl(fd.get(), F_OFD_GETLK, &held) != 0) {
      return fail_errno("ask for lock of journal " + path_);
    }
    if (held.l_type == F_UNLCK) return true;
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    EPOCHFS_TRY(int pid, holder());
    UniqueFd process(pid > 0 ? int(::syscall(SYS_pidfd_open, pid, 0)) : -1);
    // The end of the process is the event. Without a process to watch, look again soon.
    pollfd watched{process.get(), POLLIN, 0};
    ::poll(&watched, process ? 1 : 0, process ? int(left.count()) : 5);
  }
}

Result<std::string> journal_path_of(const std::string& path) {
  char value[PATH_MAX];
  ssize_t size = ::getxattr(path.c_str(), kJournalXattr, value, sizeof value);
  if (size > 0 && is_fuse_mount(path)) return std::string(value, size_t(size));
  if (size < 0 &&
      (errno == ENOENT || errno == ENOTDIR || errno == EACCES || says_mount_is_gone(errno))) {
    return fail_errno("open " + path);
  }
  struct stat st;
  if (::lstat((path + "/" + kVolumeFile).c_str(), &st) == 0 && S_ISREG(st.st_mode)) {
    return path;
  }
  return fail(
      fmt::format("{} is neither an epochfs mount nor a journal folder; mount it with: "
                  "epochfs mount {}",
                  path, path));
}

}  // namespace epochfs::journal
