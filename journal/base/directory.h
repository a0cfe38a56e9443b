// Directory: which names does a directory hold? The one place that reads directories.
//
// It does not walk trees, sort, or look at what the names are.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "journal/base/unix.h"

namespace epochfs {

// Opens dir/name for reading; follows no link. Errors: not there (ENOENT), no directory (kCorrupt).
Result<UniqueFd> open_directory(int dir, const std::string& name);

// Calls f(const char* name) for every entry except "." and "..", in no order. f returns nothing,
// or a Result<void>: its first error ends the reading and is returned. `dir` may be open for
// anything, O_PATH included, and its read position stays. `what` names the directory in errors.
// What is added or removed meanwhile may or may not come.
template <typename F>
Result<void> for_each_entry(int dir, std::string_view what, F&& f);

// ---- implementation of the template ----

Result<void> walk_entries(int dir, std::string_view what,
                          Result<void> (*f)(void* context, const char* name), void* context);

template <typename F>
Result<void> for_each_entry(int dir, std::string_view what, F&& f) {
  using Function = std::remove_reference_t<F>;
  return walk_entries(
      dir, what,
      [](void* context, const char* name) -> Result<void> {
        auto& function = *static_cast<Function*>(context);
        if constexpr (std::is_void_v<decltype(function(name))>) {
          function(name);
          return {};
        } else {
          return function(name);
        }
      },
      &f);
}

}  // namespace epochfs
