#include "fs/process/usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {
namespace {

uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * uint64_t(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void raise_descriptor_limit() {
  rlimit limit{};
  std::ifstream in("/proc/sys/fs/nr_open");
  if (!(in >> limit.rlim_max)) limit.rlim_max = 1 << 20;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

MountUsage usage_of(const Filesystem& fs) {
  std::error_code ignored;
  const auto begin = std::filesystem::directory_iterator("/proc/self/fd", ignored);
  return {.inodes = fs.inodes.size(),
          .open_files = fs.files.size() + fs.directories.size(),
          .descriptors = uint64_t(std::distance(begin, std::filesystem::directory_iterator())),
          .descriptor_limit = uint64_t(fs.descriptor_limit),
          .resident_bytes = resident_bytes(),
          .awake = fs.idle_latency.held()};
}

}  // namespace epochfs::fs
