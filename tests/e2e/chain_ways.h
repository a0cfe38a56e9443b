// Ways of a chain: by which changes can a writer count a number up in a directory, so that
// a later reader can tell what the number was?
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/base/unix.h"

namespace epochfs::testing {

// The directory of one chain, and what its writer keeps open there from step to step.
struct Place {
  std::string dir;
  UniqueFd held;
  std::shared_ptr<char> mapped;  // pages of `held`

  std::string operator/(std::string_view name) const { return dir + "/" + std::string(name); }
};

// The nth number of a chain, 0 before its first step. nullopt: what is there is no state
// that the chain was ever in.
using Count = std::optional<uint64_t>;

struct ChainWay {
  const char* name;
  // Makes step n. 0 or errno. Step n - 1 has been made, and n perhaps tried.
  int (*step)(Place& place, uint64_t n);
  // Reads what the directory holds.
  Count (*read)(const std::string& dir);
  // Whether a step that returned has to be in a cut with all that began later. A store
  // into a mapped page, which nobody sees, has only to be in what is cut later.
  bool ordered = true;
  // Whether that is so where the kernel gathers writes, too: with -o writeback.
  bool ordered_if_gathered = true;
};

const std::vector<ChainWay>& chain_ways();

}  // namespace epochfs::testing
