// Output: how does a command print many lines with few system calls, and did they arrive? One
// thread.
#pragma once

#include <cstddef>
#include <string>

#include "journal/base/result.h"

namespace epochfs::journal {

class Output {
 public:
  ~Output() { (void)flush(); }
  // Lines are appended here. Call line_done() after each.
  std::string& text() { return text_; }
  void line_done() {
    if (text_.size() >= kMaxGathered) (void)flush();
  }
  // Returns when the kernel has taken everything. The error is that of the first line that was not
  // taken: stdout is closed, or has no room.
  Result<void> flush();
  // More need not be made.
  bool failed() const { return error_ != 0; }

 private:
  static constexpr size_t kMaxGathered = 64 << 10;
  std::string text_;
  int error_ = 0;  // errno
};

}  // namespace epochfs::journal
