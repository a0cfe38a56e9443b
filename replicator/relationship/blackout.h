// Blackout: may data move now, and when does that change? Weekly windows in the
// civil time of a relationship's zone, so that shifts of daylight-saving time
// are right. No threads, no clock of its own: the caller says what time it is.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/result.h"

namespace epochfs::replicator {

constexpr size_t kMaxBlackouts = 10;

// One window: on each of `days` it begins at start and lasts until end, minutes
// after midnight. end <= start runs into the next day.
struct BlackoutWindow {
  unsigned days = 0;          // bit 0 is Sunday ... bit 6 is Saturday
  unsigned start_minute = 0;  // 0 to 1439
  unsigned end_minute = 0;    // 1 to 1440

  bool operator==(const BlackoutWindow&) const = default;
};

// "SUN,MON 22:00-06:00". Errors (kUsage) quote the text and say what is wrong.
Result<BlackoutWindow> parse_blackout(const std::string& text);
std::string to_string(const BlackoutWindow& window);

class BlackoutSchedule {
 public:
  using TimePoint = std::chrono::system_clock::time_point;

  // Checks the zone's name, the number of windows, and that they do not cover
  // the whole week.
  static Result<BlackoutSchedule> make(std::vector<BlackoutWindow> windows, std::string time_zone);

  bool active(TimePoint now) const;
  // When active() turns to the other value, to the minute; nullopt: never.
  std::optional<TimePoint> next_change(TimePoint now) const;
  // "2026-03-01 06:00 CET", in the relationship's zone.
  std::string local_text(TimePoint t) const;

 private:
  std::vector<BlackoutWindow> windows_;
  std::string time_zone_ = "UTC";
};

// The host's own zone, "UTC" where it is not known.
std::string local_time_zone();

}  // namespace epochfs::replicator
