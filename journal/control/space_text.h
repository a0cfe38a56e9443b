// SpaceText: what is an administrator told when a journal is short of room? The status of the mount
// and of each relationship that reads from it say the same.
#pragma once

#include <string>
#include <vector>

#include "schema/control.capnp.h"

namespace epochfs {

struct SpaceWarning {
  const char* name;
  std::string text;
};

// Empty: there is enough room.
std::vector<SpaceWarning> space_warnings(rpc::JournalSpace::Reader space);

}  // namespace epochfs
