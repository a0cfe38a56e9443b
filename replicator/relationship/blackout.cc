#include "replicator/relationship/blackout.h"

#include <date/tz.h>
#include <fmt/format.h>

#include <array>
#include <bitset>

namespace epochfs::replicator {
namespace {

using std::chrono::minutes;

constexpr unsigned kDayMinutes = 24 * 60;
constexpr unsigned kWeekMinutes = 7 * kDayMinutes;
constexpr std::array<const char*, 7> kDays = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"};

tl::unexpected<Error> refuse(const std::string& text, const char* why) {
  return fail(fmt::format("blackout window \"{}\": {}; write for example "
                          "\"SUN,MON 22:00-06:00\"",
                          text, why),
              0, ExitStatus::kUsage);
}

// "HH:MM" -> minutes; "24:00" only where it is allowed.
std::optional<unsigned> parse_minute(const std::string& s, bool end_of_day) {
  if (s.size() != 5 || s[2] != ':') return std::nullopt;
  for (size_t i : {0, 1, 3, 4}) {
    if (s[i] < '0' || s[i] > '9') return std::nullopt;
  }
  unsigned hour = unsigned(s[0] - '0') * 10 + unsigned(s[1] - '0');
  unsigned minute = unsigned(s[3] - '0') * 10 + unsigned(s[4] - '0');
  if (hour == 24 && minute == 0 && end_of_day) return kDayMinutes;
  if (hour > 23 || minute > 59) return std::nullopt;
  return hour * 60 + minute;
}

unsigned length(const BlackoutWindow& w) {
  return w.end_minute > w.start_minute ? w.end_minute - w.start_minute
                                       : w.end_minute + kDayMinutes - w.start_minute;
}

bool covers(const BlackoutWindow& w, unsigned minute_of_week) {
  for (unsigned day = 0; day < 7; ++day) {
    if (!(w.days & 1u << day)) continue;
    unsigned begin = day * kDayMinutes + w.start_minute;
    unsigned since = (minute_of_week + kWeekMinutes - begin) % kWeekMinutes;
    if (since < length(w)) return true;
  }
  return false;
}

unsigned minute_of_week(date::local_time<minutes> t) {
  auto day = date::floor<date::days>(t);
  unsigned weekday = date::weekday(day).c_encoding();
  return weekday * kDayMinutes + unsigned((t - day).count());
}

}  // namespace

Result<BlackoutWindow> parse_blackout(const std::string& text) {
  size_t space = text.find(' ');
  if (space == std::string::npos) return refuse(text, "it has no times");
  BlackoutWindow w;
  for (size_t at = 0; at <= space;) {
    size_t comma = std::min(text.find(',', at), space);
    std::string day = text.substr(at, comma - at);
    auto known = std::find(kDays.begin(), kDays.end(), day);
    if (known == kDays.end()) return refuse(text, "a day is one of SUN MON TUE WED THU FRI SAT");
    w.days |= 1u << (known - kDays.begin());
    at = comma + 1;
  }
  std::string times = text.substr(space + 1);
  size_t dash = times.find('-');
  if (dash == std::string::npos) return refuse(text, "times are HH:MM-HH:MM");
  auto start = parse_minute(times.substr(0, dash), false);
  auto end = parse_minute(times.substr(dash + 1), true);
  if (!start || !end) return refuse(text, "times are HH:MM-HH:MM, from 00:00 to 24:00");
  if (*start == *end) return refuse(text, "start and end are equal");
  w.start_minute = *start;
  w.end_minute = *end == 0 ? kDayMinutes : *end;
  return w;
}

std::string to_string(const BlackoutWindow& w) {
  std::string days;
  for (unsigned day = 0; day < 7; ++day) {
    if (!(w.days & 1u << day)) continue;
    if (!days.empty()) days += ',';
    days += kDays[day];
  }
  return fmt::format("{} {:02}:{:02}-{:02}:{:02}", days, w.start_minute / 60, w.start_minute % 60,
                     w.end_minute / 60, w.end_minute % 60);
}

Result<BlackoutSchedule> BlackoutSchedule::make(std::vector<BlackoutWindow> windows,
                                                std::string time_zone) {
  if (windows.size() > kMaxBlackouts) {
    return fail(
        fmt::format("{} blackout windows: at most {} are allowed", windows.size(), kMaxBlackouts),
        0, ExitStatus::kUsage);
  }
  std::bitset<kWeekMinutes> covered;
  for (unsigned minute = 0; minute < kWeekMinutes; ++minute) {
    for (const auto& w : windows) covered[minute] = covered[minute] || covers(w, minute);
  }
  if (covered.all()) {
    return fail(
        "blackout windows cover the whole week: nothing would ever be replicated; "
        "disable the relationship instead",
        0, ExitStatus::kUsage);
  }
  try {
    date::locate_zone(time_zone);
  } catch (const std::runtime_error&) {
    return fail("time zone \"" + time_zone +
                    "\" is not known; write an IANA name such as "
                    "Europe/Berlin",
                0, ExitStatus::kUsage);
  }
  BlackoutSchedule schedule;
  schedule.windows_ = std::move(windows);
  schedule.time_zone_ = std::move(time_zone);
  return schedule;
}

bool BlackoutSchedule::active(TimePoint now) const {
  if (windows_.empty()) return false;
  auto local = date::locate_zone(time_zone_)->to_local(now);
  unsigned minute = minute_of_week(date::floor<minutes>(local));
  return std::any_of(windows_.begin(), windows_.end(),
                     [&](const BlackoutWindow& w) { return covers(w, minute); });
}

std::optional<BlackoutSchedule::TimePoint> BlackoutSchedule::next_change(TimePoint now) const {
  if (windows_.empty()) return std::nullopt;
  const bool current = active(now);
  // Minute by minute through the civil calendar: slow to nobody (a few thousand
  // steps), and right through every shift of the clocks. Zones are whole minutes
  // off UTC since the 1970s.
  auto minute = std::chrono::floor<minutes>(now);
  for (unsigned step = 1; step <= kWeekMinutes + kDayMinutes; ++step) {
    minute += minutes(1);
    if (active(minute) != current) return minute;
  }
  return std::nullopt;
}

std::string BlackoutSchedule::local_text(TimePoint t) const {
  auto zoned = date::make_zoned(date::locate_zone(time_zone_), date::floor<minutes>(t));
  return date::format("%Y-%m-%d %H:%M %Z", zoned);
}

std::string local_time_zone() {
  try {
    return date::current_zone()->name();
  } catch (const std::runtime_error&) {
    return "UTC";
  }
}

}  // namespace epochfs::replicator
