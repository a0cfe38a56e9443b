// Checkpoints: is each one whole, and does the manifest know the epochs that it folds?
#include <fmt/format.h>

#include "journal/changes/checkpoints.h"
#include "journal/commands/checks/checks.h"

namespace epochfs::journal {

Result<Checked> check_checkpoints(const Volume& volume, const Tell& tell) {
  Checked checked;
  auto wrong = [&](const std::string& name, std::string problem) {
    tell({.file = fmt::format("{}/{}", kCheckpointsDir, name),
          .problem = std::move(problem),
          .lost = "what changed in these epochs, and in those before them",
          .remedy = "mount the volume: the file is removed, and relationships that need it "
                    "compare source and target"});
  };
  EPOCHFS_TRY(auto names, list_checkpoints(volume));
  for (const std::string& name : names) {
    auto checkpoint = open_checkpoint(volume, name);
    if (!checkpoint && checkpoint.error().code == ENOENT) continue;  // merged or removed just now
    ++checked.files;
    if (!checkpoint && checkpoint.error().status != ExitStatus::kCorrupt) {
      return tl::unexpected(checkpoint.error());
    }
    if (!checkpoint) {
      wrong(name, checkpoint.error().message());
      continue;
    }
    const CheckpointInfo& info = (*checkpoint)->info();
    checked.entries += info.files + info.names;
    auto sealed = read_epoch(volume.dir(), info.last);
    if (sealed && (!*sealed || (*sealed)->epoch != info.last || (*sealed)->seal != info.seal)) {
      wrong(name, fmt::format("the manifest has no epoch {} that was sealed at LSN {}",
                              value(info.last), value(info.seal)));
    }
  }
  return checked;
}

}  // namespace epochfs::journal
