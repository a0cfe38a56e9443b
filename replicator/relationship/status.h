// Status: in which words is an administrator told how a relationship fares? The same words for the
// command line and the page. The first match of the design's list of states counts.
//
// No state of its own; any thread.
#pragma once

#include <string>

#include "journal/base/clock.h"
#include "replicator/relationship/board.h"
#include "replicator/relationship/relationship.h"

namespace epochfs::replicator {

// Everything that `status` shows of a relationship, except the mount's space.
void describe(const Relationship& relationship, const Progress& progress, const Clock& clock,
              rpc::Status::Builder out);
// The same for one whose file cannot be used. Its state is Damaged.
void describe_damaged(const DamagedRelationship& damaged, rpc::Status::Builder out);
// The state alone: "Target Unreachable (connect to b: Connection refused; retrying)".
std::string state_text(const Relationship& relationship, const Progress& progress,
                       const Clock& clock);

}  // namespace epochfs::replicator
