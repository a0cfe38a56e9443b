#include "journal/commands/query/time_text.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <ctime>
#include <optional>

namespace epochfs::journal {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kMaxSeconds = UINT64_MAX / kSecond - 1;
constexpr size_t kMinEpochDigits = 9;  // fewer digits are more likely a year, or lack a unit

// The rest of a text, and the few things that the forms of a time consist of.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}
  bool done() const { return rest_.empty(); }
  bool next_is_digit() const { return !done() && rest_[0] >= '0' && rest_[0] <= '9'; }

  bool take(char c) {
    if (done() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // Exactly `count` digits, or all that follow if it is zero.
  std::optional<uint64_t> digits(size_t count = 0) {
    size_t n = 0;
    while (n < rest_.size() && rest_[n] >= '0' && rest_[n] <= '9' && (!count || n < count)) ++n;
    uint64_t number = 0;
    if (n == 0 || (count && n != count)) return std::nullopt;
    if (std::from_chars(rest_.data(), rest_.data() + n, number).ec != std::errc()) {
      return std::nullopt;
    }
    taken_ = n;
    rest_.remove_prefix(n);
    return number;
  }
  size_t digits_taken() const { return taken_; }
  // ".25" as nanoseconds; 0 if there is no fraction.
  std::optional<uint64_t> fraction() {
    if (!take('.')) return 0;
    uint64_t ns = 0, unit = kSecond;
    if (!next_is_digit()) return std::nullopt;
    for (; next_is_digit(); rest_.remove_prefix(1)) {
      unit /= 10;
      ns += uint64_t(rest_[0] - '0') * unit;  // digits beyond nanoseconds are dropped
    }
    return ns;
  }

 private:
  std::string_view rest_;
  size_t taken_ = 0;
};

std::optional<uint64_t> join(uint64_t seconds, uint64_t ns) {
  if (seconds > kMaxSeconds) return std::nullopt;
  return seconds * kSecond + ns;
}

std::optional<uint64_t> unit_ns(char unit) {
  switch (unit) {
    case 's': return kSecond;
    case 'm': return 60 * kSecond;
    case 'h': return 3600 * kSecond;
    case 'd': return 86400 * kSecond;
    case 'w': return 7 * 86400 * kSecond;
  }
  return std::nullopt;
}

std::optional<uint64_t> relative(const std::string& text, uint64_t now_ns) {
  if (text == "now") return now_ns;
  Scanner in(text);
  auto count = in.digits();
  if (!count || text.empty()) return std::nullopt;
  auto unit = unit_ns(text.back());
  if (!unit || !in.take(text.back()) || !in.done()) return std::nullopt;
  // A moment before 1970 counts as 1970.
  return *count > now_ns / *unit ? 0 : now_ns - *count * *unit;
}

std::optional<uint64_t> since_1970(const std::string& text) {
  Scanner in(text);
  const bool marked = in.take('@');
  auto seconds = in.digits();
  if (!seconds || (!marked && in.digits_taken() < kMinEpochDigits)) return std::nullopt;
  auto ns = in.fraction();
  if (!ns || !in.done()) return std::nullopt;
  return join(*seconds, *ns);
}

// offset: seconds east of UTC; nullopt: local time.
struct Zone {
  std::optional<int64_t> offset;
};
std::optional<Zone> zone(Scanner& in) {
  if (in.done()) return Zone{};
  if (in.take('Z')) return Zone{0};
  const bool east = in.take('+');
  if (!east && !in.take('-')) return std::nullopt;
  auto hours = in.digits(2);
  in.take(':');
  auto minutes = in.digits(2);
  if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  const int64_t seconds = int64_t(*hours * 3600 + *minutes * 60);
  return Zone{east ? seconds : -seconds};
}

std::optional<uint64_t> civil(const std::string& text) {
  Scanner in(text);
  auto year = in.digits(4);
  if (!year || !in.take('-')) return std::nullopt;
  auto month = in.digits(2);
  if (!month || !in.take('-')) return std::nullopt;
  auto day = in.digits(2);
  using namespace std::chrono;
  if (!day || !year_month_day(std::chrono::year(int(*year)), std::chrono::month(unsigned(*month)),
                              std::chrono::day(unsigned(*day)))
                   .ok()) {
    return std::nullopt;  // 31 February
  }
  std::tm t{};
  t.tm_year = int(*year) - 1900;
  t.tm_mon = int(*month) - 1;
  t.tm_mday = int(*day);
  t.tm_isdst = -1;
  uint64_t ns = 0;
  if (in.take('T') || in.take(' ')) {
    auto hour = in.digits(2);
    if (!hour || !in.take(':')) return std::nullopt;
    auto minute = in.digits(2);
    if (!minute || *hour > 23 || *minute > 59) return std::nullopt;
    t.tm_hour = int(*hour);
    t.tm_min = int(*minute);
    if (in.take(':')) {
      auto second = in.digits(2), fraction = second ? in.fraction() : std::nullopt;
      if (!second || !fraction || *second > 60) return std::nullopt;
      t.tm_sec = int(*second);
      ns = *fraction;
    }
  }
  auto where = zone(in);
  if (!where || !in.done()) return std::nullopt;
  const int64_t at = where->offset ? int64_t(::timegm(&t)) - *where->offset : ::mktime(&t);
  if (at < 0) return std::nullopt;
  return join(uint64_t(at), ns);
}

}  // namespace

Result<uint64_t> parse_time(std::string_view option, const std::string& text, uint64_t now_ns) {
  for (auto read : {relative(text, now_ns), since_1970(text), civil(text)}) {
    if (read) return *read;
  }
  return fail(fmt::format("option {}: \"{}\" is no time; write 2026-11-23, 2026-11-23T14:05:00, "
                          "seconds since 1970 as @1795442700, or how long ago: 90s, 10m, 2h, 3d",
                          option, text),
              0, ExitStatus::kUsage);
}

void LocalTime::append(uint64_t ns, std::string& out) {
  const uint64_t second = ns / kSecond;
  if (second != second_) {
    const auto at = time_t(second);
    std::tm t{};
    ::localtime_r(&at, &t);
    char text[64];
    date_.assign(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t));
    const long offset = t.tm_gmtoff, minutes = (offset < 0 ? -offset : offset) / 60;
    zone_ = fmt::format("{}{:02}:{:02}", offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
    second_ = second;
  }
  fmt::format_to(std::back_inserter(out), "{}.{:09}{}", date_, ns % kSecond, zone_);
}

std::string utc_time(uint64_t ns) {
  const auto at = time_t(ns / kSecond);
  std::tm t{};
  ::gmtime_r(&at, &t);
  char text[64];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
  return fmt::format("{}.{:09}Z", std::string_view(text, size), ns % kSecond);
}

}  // namespace epochfs::journal
