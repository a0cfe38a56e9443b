// BackingNames: what is a file called now, if the journal mentions no name of it? Such a file has
// had its name since before the journal began. The backing directory is asked by file handle.
// Without that directory (a copied journal), or without the right to open files by handle
// (CAP_DAC_READ_SEARCH), nothing is known.
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
  // Never fails: without the directory it knows nothing. A live mount may hide the directory, so it
  // is asked for it. Waits at most a second for its answer.
  static BackingNames of(const Volume& volume);
  // Knows no name.
  BackingNames() = default;

  // nullopt: the file has no name now, or none is known.
  std::optional<BackingName> locate(const FileId& file, const FileHandle& handle);

 private:
  std::optional<BackingName> known(const FileId& file) const;
  bool note(const std::string& path, const FileId* expected);

  UniqueFd root_;
  std::string root_path_;  // as the kernel reports it
  std::unordered_map<FileId, BackingName> known_;
};

}  // namespace epochfs::journal
