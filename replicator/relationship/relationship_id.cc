#include "replicator/relationship/relationship_id.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "journal/base/result.h"

namespace epochfs::replicator {

bool is_relationship_id(std::string_view text) {
  return text.size() == kRelationshipIdBytes &&
         text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string new_relationship_id() {
  uint64_t random;
  EPOCHFS_CHECK(getrandom(&random, sizeof random, 0) == sizeof random);
  return fmt::format("{:012x}", random >> 16);
}

}  // namespace epochfs::replicator
