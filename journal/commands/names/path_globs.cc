#include "journal/commands/names/path_globs.h"

#include <fnmatch.h>

#include <algorithm>
#include <boost/algorithm/string.hpp>

namespace epochfs::journal {

void PathGlobs::add(std::string glob) {
  boost::trim_if(glob, boost::is_any_of("/"));
  globs_.emplace_back(glob, glob.empty() ? "*" : glob + "/*");
}

bool PathGlobs::match(const std::string& path) const {
  return std::any_of(globs_.begin(), globs_.end(), [&](const auto& glob) {
    return ::fnmatch(glob.first.c_str(), path.c_str(), 0) == 0 ||
           ::fnmatch(glob.second.c_str(), path.c_str(), 0) == 0;
  });
}

}  // namespace epochfs::journal
