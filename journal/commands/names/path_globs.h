// PathGlobs: does a path match one of the patterns that a user gave?
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace epochfs::journal {

// The patterns of find -path: * and ? match / too. Whatever lies below a match matches as well.
class PathGlobs {
 public:
  // The pattern is relative to the volume's root. Leading and trailing slashes are ignored.
  void add(std::string glob);
  bool empty() const { return globs_.empty(); }
  bool match(const std::string& path) const;

 private:
  std::vector<std::pair<std::string, std::string>> globs_;  // a pattern, and one for all below it
};

}  // namespace epochfs::journal
