#include "tests/support/temporary_directory.h"

#include <cstdlib>
#include <filesystem>

#include "tests/support/failure.h"

namespace epochfs::testing {

std::string make_temporary_directory(const std::string& prefix) {
  const char* below = std::getenv("TMPDIR");
  std::string path = std::string(below && *below ? below : "/var/tmp") + "/" + prefix + ".XXXXXX";
  if (!::mkdtemp(path.data())) throw_errno("make directory " + path);
  return path;
}

TemporaryDirectory::TemporaryDirectory() : path_(make_temporary_directory("epochfs-test")) {}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace epochfs::testing
