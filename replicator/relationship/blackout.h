// Blackout: may data move now, and when does that change? Weekly windows in the civil time of a
// relationship's zone, so that they follow daylight-saving time. No threads and no clock: the
// caller says what time it is.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/result.h"

namespace epochfs::replicator {

constexpr size_t kMaxBlackouts = 10;

// One window. On each of `days` it begins at start and lasts until end, in minutes after midnight.
// end <= start runs into the next day.
struct BlackoutWindow {
  unsigned days = 0;          // bit 0 is Sunday ... bit 6 is Saturday
  unsigned start_minute = 0;  // 0 to 1439
  unsigned end_minute = 0;    // 1 to 1440

  bool operator==(const BlackoutWindow&) const = default;
};

// A window in the words in which people write it and messages carry it. From here to
// BlackoutWindow and back there is one way each.
struct BlackoutWords {
  std::vector<std::string> days;  // "SUN" ... "SAT"
  std::string start, end;         // "HH:MM"; end may be "24:00"
};
// Errors (kUsage) quote the window as text and say what is wrong.
Result<BlackoutWindow> read_words(const BlackoutWords& words);
BlackoutWords words_of(const BlackoutWindow& window);

// The words in one line: "SUN,MON 22:00-06:00". Errors as above.
Result<BlackoutWindow> parse_blackout(const std::string& text);
std::string to_string(const BlackoutWindow& window);

class BlackoutSchedule {
 public:
  using TimePoint = std::chrono::system_clock::time_point;

  // Checks the zone's name, the number of windows, and that they leave some of the week free.
  static Result<BlackoutSchedule> make(std::vector<BlackoutWindow> windows, std::string time_zone);

  bool active(TimePoint now) const;
  // When active() changes next, to the minute; nullopt: never.
  std::optional<TimePoint> next_change(TimePoint now) const;
  // "2026-03-01 06:00 CET", in the relationship's zone.
  std::string local_text(TimePoint t) const;

 private:
  std::vector<BlackoutWindow> windows_;
  std::string time_zone_ = "UTC";
};

// The host's own zone; "UTC" where that is not known.
std::string local_time_zone();

}  // namespace epochfs::replicator
