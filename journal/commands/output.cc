#include "journal/commands/output.h"

#include <cstdio>

namespace epochfs::journal {

Result<void> Output::flush() {
  errno = 0;
  const bool taken = std::fwrite(text_.data(), 1, text_.size(), stdout) == text_.size() &&
                     std::fflush(stdout) == 0;
  text_.clear();
  if (!taken && error_ == 0) error_ = errno ? errno : EIO;
  if (error_) return fail("print to standard output", error_);
  return {};
}

}  // namespace epochfs::journal
