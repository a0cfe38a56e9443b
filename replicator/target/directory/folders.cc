#include "replicator/target/directory/folders.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/xattr.h>

#include <climits>

#include "journal/base/directory.h"
#include "replicator/relationship/relationship_id.h"
#include "replicator/target/directory/beneath.h"

namespace epochfs::replicator {
namespace {

using Kind = Refusal::Kind;

std::string stage_folder(const std::string& relationship) { return ".epochfs-" + relationship; }

tl::unexpected<Refusal> lost(const std::string& path, std::string_view why, int code = 0) {
  return refuse(Kind::kTargetLost,
                fmt::format("find target directory {}{}{}", path, why.empty() ? "" : ": ", why),
                code);
}

struct Location {
  uint64_t inode, device, mount;
  FileId id;
};

Result<Location> locate(int fd, const std::string& path) {
  struct statx a;
  const unsigned mask = STATX_INO | STATX_TYPE | STATX_BTIME | STATX_MNT_ID;
  if (::statx(fd, "", AT_EMPTY_PATH, mask, &a) != 0) return fail_errno("stat " + path);
  uint64_t mount = a.stx_mask & STATX_MNT_ID ? a.stx_mnt_id : 0;
  return Location{a.stx_ino, uint64_t(a.stx_dev_major) << 32 | a.stx_dev_minor, mount, file_id(a)};
}

// The path of an open directory, without symbolic links: its last component is its name.
Result<std::string> real_path(int fd, const std::string& path) {
  char target[PATH_MAX];
  ssize_t size = ::readlink(proc_path(fd).c_str(), target, sizeof target);
  if (size < 0) return fail_errno("find the name of " + path);
  return std::string(target, size_t(size));
}

Outcome<void> open_root(Folders& f, const std::string& directory, bool established) {
  f.path = directory;
  f.root = UniqueFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!f.root) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    if (established && missing) return lost(directory, "", errno);
    return fail_errno("open target directory " + directory);
  }
  f.parent = UniqueFd(::openat(f.root.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!f.parent) return fail_errno("open the parent of target directory " + directory);
  EPOCHFS_TRY(Location root, locate(f.root.get(), directory));
  EPOCHFS_TRY(Location parent, locate(f.parent.get(), directory + "/.."));
  if (root.device != parent.device || root.mount != parent.mount || root.inode == parent.inode) {
    return fail(
        fmt::format("use target directory {}: it is the root of a file system, and the "
                    "stage must lie beside it on the same one; use a directory inside it",
                    directory));
  }
  f.root_id = root.id;
  EPOCHFS_TRY(std::string real, real_path(f.root.get(), directory));
  f.name = real.substr(real.rfind('/') + 1);
  return {};
}

// Makes a folder of the stage, or opens it. Received files must not inherit its ACLs
// or its group.
Result<UniqueFd> open_own(int parent, const std::string& name, bool& made) {
  made = ::mkdirat(parent, name.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) return fail_errno("make folder " + name);
  int fd = open_beneath(parent, name.c_str(), O_RDONLY | O_DIRECTORY);
  if (fd < 0) return fail("open folder " + name, -fd);
  UniqueFd folder(fd);
  struct stat s;
  if (::fstat(fd, &s) != 0) return fail_errno("stat folder " + name);
  if (s.st_uid != ::geteuid() || (!made && (s.st_mode & 077) != 0)) {
    return fail("open folder " + name + ": somebody else could write to it; remove it");
  }
  if (made) {
    ::fremovexattr(fd, "system.posix_acl_default");
    ::fremovexattr(fd, "system.posix_acl_access");
    if (::fchmod(fd, 0700) != 0) return fail_errno("set mode of folder " + name);
  }
  return folder;
}

Outcome<UniqueFd> take_lock(int stage) {
  int fd = open_beneath(stage, "lock", O_RDWR | O_CREAT, 0600);
  if (fd < 0) return fail("open the lock of the target's stage", -fd);
  UniqueFd lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return fail_errno("lock the target's stage");
  return refuse(Kind::kBusy, "lock the target's stage: another session has it");
}

// Two relationships with the same target directory would undo each other's work.
Outcome<void> lock_root(const Folders& f) {
  if (::flock(f.root.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return fail_errno("lock target directory " + f.path);
  return fail("use target directory " + f.path + ": another relationship uses it");
}

Outcome<void> open_stage(Folders& f, Storage& storage, const std::string& name, bool established) {
  struct stat s;
  if (established && stat_beneath(f.parent.get(), name.c_str(), s) == -ENOENT) {
    return lost(f.path, "its stage " + name + " is not beside it; is its file system mounted?");
  }
  bool ignored;
  EPOCHFS_TRY(f.stage, open_own(f.parent.get(), name, f.stage_is_new));
  EPOCHFS_TRY(f.lock, take_lock(f.stage.get()));
  EPOCHFS_DO(lock_root(f));
  EPOCHFS_TRY(f.index, open_own(f.stage.get(), "index", ignored));
  EPOCHFS_TRY(f.incoming, open_own(f.stage.get(), "incoming", ignored));
  EPOCHFS_TRY(f.extents, open_own(f.stage.get(), "extents", ignored));
  EPOCHFS_TRY(f.limbo, open_own(f.stage.get(), "limbo", ignored));
  if (f.stage_is_new) {
    EPOCHFS_DO(storage.sync_directory("target: stage folder", f.stage.get(), name));
    EPOCHFS_DO(storage.sync_directory("target: parent of stage", f.parent.get(), f.path + "/.."));
  }
  return {};
}

}  // namespace

Outcome<Folders> Folders::open(Storage& storage, const std::string& directory,
                               const std::string& relationship, bool established) {
  if (!is_relationship_id(relationship)) return fail("open a target: it has no relationship id");
  Folders f;
  EPOCHFS_DO(open_root(f, directory, established));
  EPOCHFS_DO(f.check_root());
  auto opened = open_stage(f, storage, stage_folder(relationship), established);
  if (opened) return f;
  if (std::exchange(f, {}).stage_is_new) {
    [[maybe_unused]] auto removed = remove_stage_folder(directory, relationship);
  }
  return tl::unexpected(opened.error());
}

Outcome<void> Folders::check_root() const {
  struct stat s;
  int code = stat_beneath(parent.get(), name.c_str(), s);
  if (code != 0) return lost(path, "", -code);
  if (!S_ISDIR(s.st_mode) || s.st_ino != root_id.inode) {
    return lost(path, "something else has its name now");
  }
  return {};
}

Outcome<bool> Folders::root_is_empty() const {
  bool empty = true;
  EPOCHFS_DO(for_each_entry(root.get(), path, [&](const char*) -> Result<void> {
    empty = false;
    return {};
  }));
  return empty;
}

Outcome<void> remove_stage_folder(const std::string& directory, const std::string& relationship) {
  if (!is_relationship_id(relationship)) return fail("remove a stage: it has no relationship id");
  UniqueFd parent(::open((directory + "/..").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) {  // the target directory is gone, but its stage may still be there
    std::string above = directory.substr(0, directory.find_last_not_of('/') + 1);
    above.resize(above.find_last_of('/') + 1);
    parent =
        UniqueFd(::open(above.empty() ? "." : above.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  const std::string name = stage_folder(relationship);
  int fd = parent ? open_beneath(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY) : -ENOENT;
  if (fd == -ENOENT) return {};
  if (fd < 0) return fail("open folder " + name, -fd);
  UniqueFd stage(fd);
  EPOCHFS_TRY(UniqueFd lock, take_lock(stage.get()));
  EPOCHFS_DO(empty_directory(stage.get(), name));
  if (::unlinkat(parent.get(), name.c_str(), AT_REMOVEDIR) != 0) {
    return fail_errno("remove folder " + name);
  }
  return {};
}

}  // namespace epochfs::replicator
