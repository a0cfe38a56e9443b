// What is an administrator told of the room that a journal takes? The same by the status
// of a mount and of the relationships that read from it.
#pragma once

#include <string>
#include <vector>

#include "schema/control.capnp.h"

namespace epochfs {

struct SpaceWarning {
  const char* name;
  std::string text;
};

// Empty: there is room enough.
std::vector<SpaceWarning> space_warnings(rpc::JournalSpace::Reader space);

}  // namespace epochfs
