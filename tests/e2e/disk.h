// Disk: how does a test fill a disk, use up a quota or make a file system read-only? On a
// small file system of its own, in an image file.
#pragma once

#include <optional>
#include <string>

#include "tests/e2e/process.h"

namespace epochfs::testing {

// What the program prints, without the last newline. Throws Failure where it fails.
std::string must_run(std::vector<std::string> argv);

// Runs mkfs with that image. Throws Failure.
void make_file_system(std::vector<std::string> mkfs, const std::string& image);

class Disk {
 public:
  // Makes a file system of that type on `bytes` below `folder`, and mounts it there.
  // Throws Failure.
  Disk(const std::string& folder, const std::string& name, uint64_t bytes,
       std::vector<std::string> make, const std::string& options);
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // Why there can be none here; nullopt: it can. `tool` makes the file system.
  static std::optional<std::string> why_not(const std::string& tool);

  const std::string& path() const { return path_; }
  std::string device() const;  // that it is on
  // "ro" or "rw". False where a file is open for writing.
  bool remount(const std::string& option);

 private:
  std::string path_;
};

}  // namespace epochfs::testing
