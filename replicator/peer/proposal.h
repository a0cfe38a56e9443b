// Proposal: what do two hosts tell each other about themselves and about a relationship, and is
// what came well-formed? Decides nothing.
#pragma once

#include <string>

#include "replicator/relationship/relationship.h"
#include "schema/replication.capnp.h"

namespace epochfs::replicator {

// A proposal that a peer sent, checked.
struct Proposal {
  std::string id, source_directory, target_directory;
  Uuid lineage;
};

Result<Proposal> read_proposal(rpc::Proposal::Reader from);
void write_proposal(const Relationship& from, rpc::Proposal::Builder to);

// Whether the relationship, in which this host is the target, is the one that is proposed.
bool same_terms(const Relationship& relationship, const Proposal& proposal);

// This host's name and version.
void introduce_host(rpc::HostInfo::Builder to);

}  // namespace epochfs::replicator
