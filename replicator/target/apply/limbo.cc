#include "replicator/target/apply/limbo.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cstdio>

namespace epochfs::replicator {

int rename_beneath(int from_dir, const char* from, int to_dir, const char* to) {
  if (::renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -errno;
  // The file system lacks the flag. The stage's lock keeps other sessions out meanwhile.
  struct stat s;
  if (stat_beneath(to_dir, to, s) == 0) return -EEXIST;
  return ::renameat(from_dir, from, to_dir, to) == 0 ? 0 : -errno;
}

Result<bool> Limbo::take(int dir, const std::string& name, FileId id) {
  int code = rename_beneath(dir, name.c_str(), fd_, stage_name(id).c_str());
  if (code == 0) return true;
  if (code == -ENOENT) return false;
  if (code != -EEXIST) return fail(fmt::format("move {} to limbo", escape(name)), -code);
  // The file was moved before. What has its name now is something else.
  EPOCHFS_DO(displace(dir, name));
  return true;
}

Result<bool> Limbo::holds(FileId id) const {
  struct stat s;
  int code = stat_beneath(fd_, stage_name(id).c_str(), s);
  if (code != 0 && code != -ENOENT) return fail("look into limbo", -code);
  return code == 0;
}

Result<void> Limbo::displace(int dir, const std::string& name) {
  for (;;) {
    const std::string to = fmt::format("displaced-{}", displaced_++);
    int code = rename_beneath(dir, name.c_str(), fd_, to.c_str());
    if (code == 0 || code == -ENOENT) return {};
    if (code != -EEXIST) return fail(fmt::format("move {} to limbo", escape(name)), -code);
  }
}

}  // namespace epochfs::replicator
