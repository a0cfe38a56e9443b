#include "journal/base/result.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace epochfs {

std::string Error::message() const {
  if (code == 0) return what;
  char buffer[128];
  return what + ": " + strerror_r(code, buffer, sizeof buffer);
}

void broken_invariant(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "epochfs: broken invariant: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace epochfs
