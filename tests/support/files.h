// Files: the few things that tests do to files by hand, in one line each. All throw Failure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace epochfs::testing {

// Replaces what the file held. New files have mode 0644.
void write_file(const std::string& path, std::string_view bytes);
void append_file(const std::string& path, std::string_view bytes);
void write_file_at(int directory, const std::string& name, std::string_view bytes);
// Overwrites bytes in place.
void poke(const std::string& path, uint64_t offset, std::string_view bytes);
// Dense and incompressible, from the seed, written in pieces of 1 MiB.
void write_large_file(const std::string& path, uint64_t bytes, uint64_t seed);
std::string read_whole_file(const std::string& path);
// The same; empty where there is no such file.
std::string read_file_if_there(const std::string& path);

void make_directory(const std::string& path);

void set_xattr(const std::string& path, const std::string& name, std::string_view value);
// All of them. Links are not followed; `what` names the file in messages.
std::map<std::string, std::string> xattrs_of(const std::string& path, const std::string& what);

}  // namespace epochfs::testing
