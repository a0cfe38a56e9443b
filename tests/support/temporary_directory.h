// TemporaryDirectory: where does a test keep its files? In a directory of its own below
// TMPDIR, or below /var/tmp, which goes with the object. Set TMPDIR to run a test on another
// file system.
#pragma once

#include <string>

namespace epochfs::testing {

// Makes a directory of mode 0700 that nobody else has. Its name begins with `prefix`. The
// caller removes it. Throws Failure.
std::string make_temporary_directory(const std::string& prefix);

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace epochfs::testing
