// Output: how does a command print many lines with few system calls? One thread.
#pragma once

#include <cstddef>
#include <string>

namespace epochfs::journal {

class Output {
 public:
  ~Output() { flush(); }
  // Lines are appended here. Call line_done() after each.
  std::string& text() { return text_; }
  void line_done() {
    if (text_.size() >= kMaxGathered) flush();
  }
  // Returns when the kernel has taken everything. False: stdout is closed, or has no room.
  bool flush();

 private:
  static constexpr size_t kMaxGathered = 64 << 10;
  std::string text_;
};

}  // namespace epochfs::journal
