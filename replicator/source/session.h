// SourceSession: what does the source of one relationship do, from the first call
// to the last? A thread of its own with an event loop of its own:
//
//   connect - propose, until the target's administrator has decided - open
//   then, for as long as data may move: barrier and pin - fold the journal since
//   the target's cursor - send the change set - commit - advance the cursor
//
// A full transfer (the baseline; a reconciliation after a gap) begins with the
// number W of the newest sealed epoch, walks the live tree, and then sends, from
// a pinned epoch E, all that changed in (W, E]. Bytes that did not change since W
// are as the walk read them; all others come from E: together they are E exactly.
// A directory that was moved past the walk is found in the change set and walked
// too, before another E is cut.
//
// Whatever goes wrong, the session starts anew after a while, and the stage on
// the target is taken up where it was left.
#pragma once

#include <memory>
#include <string>

#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"

namespace epochfs::replicator {

class SourceSession {
 public:
  SourceSession(RelationshipTable& table, ProgressBoard& board, Storage& storage,
                std::string relationship_id);
  ~SourceSession();  // stops, within a second; waits for the thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace epochfs::replicator
