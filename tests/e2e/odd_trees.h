// Odd trees: which trees, that real ones seldom are, must a mount and a replicator bear? All
// functions throw Failure.
#pragma once

#include <string>

#include "journal/base/unix.h"

namespace epochfs::testing {

// Odd names, modes, owners, times, ACLs, xattrs, hard links, holes, device nodes, sockets and
// FIFOs. Makes the directory.
void make_odd_tree(const std::string& path);
// `count` files of some hundred bytes each in `directories` directories. Makes the directory.
void make_many_files(const std::string& path, size_t directories, size_t count);
// Directories one within the other, each with this name, below `root`, deeper than a path
// can say. Returns the innermost one, open.
UniqueFd make_deep_directory(const std::string& root, const std::string& name, size_t levels);

}  // namespace epochfs::testing
