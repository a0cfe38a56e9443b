// TimeText: which moment does a user mean, and how is a moment shown? Converts between text and
// nanoseconds since 1970 on the wall clock. Nothing here reads the clock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "journal/base/result.h"

namespace epochfs::journal {

// Reads one of
//   2026-11-23                     midnight
//   2026-11-23T14:05               also with a space, :SS, a fraction of a second
//   2026-11-23T14:05:00Z  +01:00   at UTC, or at that distance from it; else local time
//   1795442700  @1795442700.25     seconds since 1970; without @ nine digits at least
//   90s 10m 2h 3d 1w  now          that long before now_ns
// Errors name `option`, and are of status kUsage.
Result<uint64_t> parse_time(std::string_view option, const std::string& text, uint64_t now_ns);

// "2026-11-23T14:05:00.123456789+01:00" in local time. Caches the last second, since neighbouring
// records mostly share it. One thread.
class LocalTime {
 public:
  void append(uint64_t ns, std::string& out);

 private:
  uint64_t second_ = UINT64_MAX;
  std::string date_, zone_;
};

// "2026-11-23T13:05:00.123456789Z"
std::string utc_time(uint64_t ns);

}  // namespace epochfs::journal
