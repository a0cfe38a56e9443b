#include "replicator/target/directories.h"

#include <fcntl.h>

#include <cstring>
#include <memory>

#include "journal/base/directory.h"

namespace epochfs::replicator {

TargetOptions target_options(const Relationship& r) {
  TargetOptions options;
  options.relationship = r.id;
  options.lineage = r.lineage;
  options.directory = r.target_directory;
  options.replace_contents = r.replace_contents;
  options.established = r.established;
  return options;
}

void note_recovery_point(ProgressBoard& board, const std::string& id, const RecoveryPoint& point) {
  board.update(id, [&](Progress& p) {
    p.recovery_epoch = EpochId{point.cursor};
    p.recovery_time_ns = point.barrier_ns;
  });
}

void roll_forward_targets(const RelationshipTable& table, ProgressBoard& board, Storage& storage) {
  for (const Relationship& r : table.list()) {
    if (r.role != rpc::Role::TARGET || r.decision != Decision::kAccepted || !r.established)
      continue;
    auto target = Target::open(storage, target_options(r));
    if (target) {
      note_recovery_point(board, r.id, (*target)->state());
    } else {
      board.update(r.id, [&](Progress& p) { p.error = target.error().error.message(); });
    }
  }
}

Result<void> discard_target(Storage& storage, const Relationship& relationship) {
  if (!relationship.established) return {};
  auto removed = remove_stage(storage, target_options(relationship));
  if (removed || removed.error().kind == Refusal::Kind::kBusy) return {};
  return tl::unexpected(removed.error().error);
}

Result<void> check_target_directory(const std::string& path, bool replace_contents) {
  const std::string what = "target directory " + path;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) {
    int code = errno;
    return fail(code == ENOENT ? what + " does not exist; make it first: mkdir " + path : what,
                code == ENOENT ? 0 : code);
  }
  return for_each_entry(fd.get(), path, [&](const char*) -> Result<void> {
    if (replace_contents) return {};
    return fail(what +
                    " is not empty; empty it, or accept that its contents are DELETED with "
                    "--replace-contents",
                ENOTEMPTY);
  });
}

}  // namespace epochfs::replicator
