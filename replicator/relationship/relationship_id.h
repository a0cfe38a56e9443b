// RelationshipId: what does the id of a relationship look like? 12 lower-case hex digits, which the
// source draws at random. Safe as a file name.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace epochfs::replicator {

constexpr size_t kRelationshipIdBytes = 12;

bool is_relationship_id(std::string_view text);
std::string new_relationship_id();

}  // namespace epochfs::replicator
