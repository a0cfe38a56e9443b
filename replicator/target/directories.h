// Directories: what becomes of a relationship's target directory outside of a session? It is
// checked before it is taken into use, finished after a stop of the host, and let go when the
// relationship ends. Needs no source.
#pragma once

#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"
#include "replicator/target/target.h"

namespace epochfs::replicator {

// How the relationship's target is opened.
TargetOptions target_options(const Relationship& relationship);
// Shows on the board what the target holds.
void note_recovery_point(ProgressBoard& board, const std::string& id, const RecoveryPoint& point);

// Finishes epochs that were committed, but not completely applied when the host stopped. Shows
// errors on the board, as those of the relationship.
void roll_forward_targets(const RelationshipTable& table, ProgressBoard& board, Storage& storage);

// Checks that a target directory can be taken into use: it exists, is a directory, and is empty
// unless `replace_contents`.
Result<void> check_target_directory(const std::string& path, bool replace_contents);

// Removes what lies beside the target directory of a relationship that ends; the directory itself
// stays. Does nothing while a session is open: that session does it when it ends.
Result<void> discard_target(Storage& storage, const Relationship& relationship);

}  // namespace epochfs::replicator
