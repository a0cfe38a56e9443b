// BackingNames: what is a file called now that the journal tells no name of? Asks the
// backing directory by file handle, for what has its name since before the journal
// began. Without that directory (a copied journal), or without the right to open files
// by handle (CAP_DAC_READ_SEARCH), nothing is known.
//
// Reads the mount's backing directory, never the mount. One thread.
#pragma once

#include <optional>
#include <unordered_map>

#include "journal/base/unix.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

struct BackingName {
  FileId parent;
  std::string name;
};

class BackingNames {
 public:
  // Never fails: where the directory cannot be had, it knows nothing. A live mount is
  // asked for it, for it may hide it; waits for its answer for a second at most.
  static BackingNames of(const Volume& volume);
  // Knows nothing.
  BackingNames() = default;

  std::optional<BackingName> locate(const FileId& file, const FileHandle& handle);

 private:
  std::optional<BackingName> known(const FileId& file) const;
  bool note(const std::string& path, const FileId* expected);

  UniqueFd root_;
  std::string root_path_;  // as the kernel tells it
  std::unordered_map<FileId, BackingName> known_;
};

}  // namespace epochfs::journal
