#include "tests/support/failure.h"

#include <cerrno>
#include <cstring>

namespace epochfs::testing {

void throw_errno(const std::string& what) { throw Failure(what + ": " + std::strerror(errno)); }

}  // namespace epochfs::testing
