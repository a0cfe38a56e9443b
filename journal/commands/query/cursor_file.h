// CursorFile: up to where has a follower read a journal? One line of text names the volume's
// lineage and the LSN at which to go on. It is replaced in one step. The file belongs to the user,
// who says where it lies. The cursors of relationships are others (journal/volume/cursors.h).
#pragma once

#include <optional>

#include "journal/base/storage.h"
#include "journal/base/unix.h"

namespace epochfs::journal {

class CursorFile {
 public:
  // The folder must exist, the file need not.
  static Result<CursorFile> open(const std::string& path, const Uuid& lineage);

  // nullopt: there is no such file. A file that is no cursor, or another journal's, is an error of
  // status kUsage.
  Result<std::optional<Lsn>> read() const;
  // Returns when the position is durable.
  Result<void> write(Lsn at);

 private:
  std::string path_, name_;
  UniqueFd folder_;
  Uuid lineage_;
};

}  // namespace epochfs::journal
