// SourceSession: what does the source of one relationship do, from the first call to the last? It
// has a thread with an event loop:
//
//   dial - hello - propose, and wait for the decision of the target's administrator - open
//   then, while data may move: barrier and pin - fold the journal since the target's cursor - send
//   the change set - commit - advance the cursor
//
// It wakes when its relationship changes in the table, and when somebody asks for an epoch; not
// with progress. DESIGN.md says how a full transfer (the baseline, or a reconciliation after a gap)
// becomes exact while the tree changes.
//
// After a failure the session begins anew after a while. The stage on the target resumes where it
// was.
#pragma once

#include <memory>
#include <string>

#include "journal/base/clock.h"
#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"

namespace epochfs::replicator {

class SourceSession {
 public:
  SourceSession(RelationshipTable& table, ProgressBoard& board, Storage& storage,
                const Clock& clock, std::string relationship_id);
  ~SourceSession();  // stops within a second, and waits for the thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace epochfs::replicator
