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

std::string minute_text(unsigned minute) {
  return fmt::format("{:02}:{:02}", minute / 60, minute % 60);
}

std::string join(const BlackoutWords& words) {
  return fmt::format("{} {}-{}", fmt::join(words.days, ","), words.start, words.end);
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

Result<BlackoutWindow> read_words(const BlackoutWords& words) {
  const std::string text = join(words);
  if (words.days.empty()) return refuse(text, "it has no day");
  BlackoutWindow w;
  for (const std::string& day : words.days) {
    auto known = std::find(kDays.begin(), kDays.end(), day);
    if (known == kDays.end()) return refuse(text, "a day is one of SUN MON TUE WED THU FRI SAT");
    w.days |= 1u << (known - kDays.begin());
  }
  auto start = parse_minute(words.start, false);
  auto end = parse_minute(words.end, true);
  if (!start || !end) return refuse(text, "times are HH:MM-HH:MM, from 00:00 to 24:00");
  if (*start == *end) return refuse(text, "start and end are equal");
  w.start_minute = *start;
  w.end_minute = *end == 0 ? kDayMinutes : *end;
  return w;
}

BlackoutWords words_of(const BlackoutWindow& w) {
  BlackoutWords words;
  for (unsigned day = 0; day < 7; ++day) {
    if (w.days & 1u << day) words.days.push_back(kDays[day]);
  }
  words.start = minute_text(w.start_minute);
  words.end = minute_text(w.end_minute);
  return words;
}

Result<BlackoutWindow> parse_blackout(const std::string& text) {
  const size_t space = text.find(' ');
  if (space == text.npos) return refuse(text, "it has no times");
  const size_t dash = text.find('-', space);
  if (dash == text.npos) return refuse(text, "times are HH:MM-HH:MM");
  BlackoutWords words;
  for (size_t at = 0; at <= space;) {
    const size_t comma = std::min(text.find(',', at), space);
    words.days.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  words.start = text.substr(space + 1, dash - space - 1);
  words.end = text.substr(dash + 1);
  return read_words(words);
}

std::string to_string(const BlackoutWindow& w) { return join(words_of(w)); }

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
  // Minute by minute through the civil calendar: fast enough (some ten thousand steps), and right
  // whenever the clocks shift. All zones have been whole minutes off UTC since the 1970s.
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
