#include "tests/support/expect.h"

#include <cstdio>
#include <cstdlib>

namespace epochfs::testing {

void abort_with(const Error& error) {
  std::fprintf(stderr, "must succeed: %s\n", error.message().c_str());
  std::abort();
}

}  // namespace epochfs::testing
