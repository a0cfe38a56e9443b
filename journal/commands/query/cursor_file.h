// CursorFile: up to where has somebody read a journal? A line of text that names the
// volume's lineage and the LSN to go on at, replaced in one step. It is the reader's, and
// lies wherever they like; relationships have theirs in the volume's folder (cursors.h).
#pragma once

#include <optional>

#include "journal/base/storage.h"
#include "journal/base/unix.h"

namespace epochfs::journal {

class CursorFile {
 public:
  // The folder must exist, the file need not.
  static Result<CursorFile> open(const std::string& path, const Uuid& lineage);

  // nullopt: there is no such file. Errors (kUsage): it is no cursor, or another journal's.
  Result<std::optional<Lsn>> read() const;
  // Returns when it is durable.
  Result<void> write(Lsn at);

 private:
  std::string path_, name_;
  UniqueFd folder_;
  Uuid lineage_;
};

}  // namespace epochfs::journal
