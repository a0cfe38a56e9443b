#include "journal/commands/output.h"

#include <cstdio>

namespace epochfs::journal {

bool Output::flush() {
  const bool written = std::fwrite(text_.data(), 1, text_.size(), stdout) == text_.size();
  text_.clear();
  return std::fflush(stdout) == 0 && written;
}

}  // namespace epochfs::journal
