// Printing: is what a command prints harmless on a terminal? Any thread.
#pragma once

#include <string>
#include <string_view>

namespace epochfs {

// A message on one line of printable UTF-8. What is not printable is escaped. Backslashes stay as
// they are: a message may hold names that are escaped already.
std::string printable(std::string_view message);

}  // namespace epochfs
