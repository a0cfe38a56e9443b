#include "replicator/peer/proposal.h"

#include <unistd.h>

#include <cstring>

namespace epochfs::replicator {
namespace {

bool is_path(const std::string& path) {
  return path.size() > 1 && path[0] == '/' && path.size() < rpc::MAX_PATH_BYTES &&
         path.find('\0') == std::string::npos;
}

}  // namespace

Result<Proposal> read_proposal(rpc::Proposal::Reader from) {
  Proposal p;
  p.id = from.getRelationship();
  p.source_directory = from.getSourceDirectory();
  p.target_directory = from.getTargetDirectory();
  auto lineage = from.getLineage();
  if (!is_relationship_id(p.id) || lineage.size() != p.lineage.bytes.size() ||
      !is_path(p.source_directory) || !is_path(p.target_directory)) {
    return fail("the proposal is malformed");
  }
  std::memcpy(p.lineage.bytes.data(), lineage.begin(), lineage.size());
  return p;
}

void write_proposal(const Relationship& r, rpc::Proposal::Builder out) {
  out.setRelationship(r.id);
  out.setLineage({r.lineage.bytes.data(), r.lineage.bytes.size()});
  out.setSourceDirectory(r.source_directory);
  out.setTargetDirectory(r.target_directory);
}

bool same_terms(const Relationship& r, const Proposal& p) {
  return r.role == rpc::Role::TARGET && r.lineage == p.lineage &&
         r.source_directory == p.source_directory && r.target_directory == p.target_directory;
}

void introduce_host(rpc::HostInfo::Builder out) {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  out.setName(name);
  out.setSoftware("epochfs " EPOCHFS_VERSION);
}

}  // namespace epochfs::replicator
