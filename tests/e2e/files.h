// Files: the few things that tests do to files by hand, in one line each. All throw
// Failure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "journal/base/unix.h"

namespace epochfs::testing {

void write_file(const std::string& path, std::string_view bytes);
void append_file(const std::string& path, std::string_view bytes);
std::string read_whole_file(const std::string& path);
// Dense and incompressible, from the seed, written in pieces of 1 MiB.
void write_large_file(const std::string& path, uint64_t bytes, uint64_t seed);

void make_directory(const std::string& path);
// Directories within each other, each with this name, below `root`, deeper than a path
// could say. The innermost one, open.
UniqueFd make_deep_directory(const std::string& root, const std::string& name, size_t levels);
void write_file_at(int directory, const std::string& name, std::string_view bytes);

// What real trees seldom have: odd names, modes, owners, times, ACLs, xattrs, hard
// links, holes, device nodes, sockets, FIFOs.
void make_odd_tree(const std::string& path);
// `count` files of some hundred bytes in `directories` directories.
void make_many_files(const std::string& path, size_t directories, size_t count);

}  // namespace epochfs::testing
