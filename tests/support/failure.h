// Failure: how does a helper end a test that cannot go on?
#pragma once

#include <stdexcept>
#include <string>

namespace epochfs::testing {

// GoogleTest reports it as a failure of the test, after every destructor has tidied up.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// For a system call that must not fail: `what`, and the text of errno.
[[noreturn]] void throw_errno(const std::string& what);

}  // namespace epochfs::testing
