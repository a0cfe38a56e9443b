#include "journal/commands/cut_files.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace epochfs::journal {
namespace {

void put_zeros(int, siginfo_t* info, void*) {
  const int saved_errno = errno;
  const auto page_bytes = uintptr_t(::sysconf(_SC_PAGESIZE));
  const auto page = reinterpret_cast<uintptr_t>(info->si_addr) / page_bytes * page_bytes;
  // Other reasons, like a broken disk, end the process as they always did: the read is repeated.
  if (info->si_code != BUS_ADRERR ||
      ::mmap(reinterpret_cast<void*>(page), page_bytes, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
    ::signal(SIGBUS, SIG_DFL);
  }
  errno = saved_errno;
}

}  // namespace

CutFilesReadAsZeros::CutFilesReadAsZeros() {
  struct sigaction action {};
  action.sa_sigaction = put_zeros;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, &before_);
}

CutFilesReadAsZeros::~CutFilesReadAsZeros() { ::sigaction(SIGBUS, &before_, nullptr); }

}  // namespace epochfs::journal
