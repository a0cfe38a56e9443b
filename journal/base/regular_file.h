// RegularFile: how is a file opened in a folder that may come from anywhere?
//
// A folder that somebody copied or made can hold anything under the names that epochfs knows: a
// FIFO, on which open(2) waits; a symbolic link, out of the folder; a device. Nothing of that is
// ever opened. Any thread.
#pragma once

#include <string>

#include "journal/base/unix.h"

namespace epochfs {

// Opens dir/name for reading, without following it. Errors name it: there is none (code ENOENT); it
// is something other than a regular file (kCorrupt).
Result<UniqueFd> open_regular(int dir, const std::string& name);

}  // namespace epochfs
