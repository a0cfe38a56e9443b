#include "journal/base/limits.h"

#include <signal.h>
#include <sys/resource.h>

namespace epochfs {

void allow_large_files() {
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  if (::setrlimit(RLIMIT_FSIZE, &limit) == 0) return;
  // Only root may go beyond the hard limit.
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

}  // namespace epochfs
