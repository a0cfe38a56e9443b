// Blackout windows: what is accepted, and when they are active.
#include "replicator/relationship/blackout.h"

#include <capnp/message.h>
#include <date/date.h>
#include <gtest/gtest.h>

#include <sstream>

#include "replicator/relationship/relationship.h"

namespace epochfs::replicator {
namespace {

using TimePoint = BlackoutSchedule::TimePoint;

TimePoint utc(const std::string& text) {
  std::istringstream in(text);
  date::sys_time<std::chrono::minutes> t;
  in >> date::parse("%F %R", t);
  EXPECT_FALSE(in.fail()) << text;
  return t;
}

BlackoutSchedule schedule(const std::vector<std::string>& windows, const std::string& zone) {
  std::vector<BlackoutWindow> parsed;
  for (const auto& text : windows) parsed.push_back(parse_blackout(text).value());
  return BlackoutSchedule::make(parsed, zone).value();
}

TEST(BlackoutWindow, ReadsDaysAndTimes) {
  BlackoutWindow w = parse_blackout("SUN,MON 22:00-06:00").value();
  EXPECT_EQ(w.days, 0b0000011u);
  EXPECT_EQ(w.start_minute, 22u * 60);
  EXPECT_EQ(w.end_minute, 6u * 60);
  EXPECT_EQ(to_string(w), "SUN,MON 22:00-06:00");
}

TEST(BlackoutWindow, WholeDayIsMidnightToTwentyFour) {
  EXPECT_EQ(to_string(parse_blackout("SAT 00:00-24:00").value()), "SAT 00:00-24:00");
}

TEST(BlackoutWindow, MalformedIsRefusedAndQuoted) {
  for (const char* text : {"", "SUN", "SUN 22:00", "SUN 22:00-22:00", "SUN 24:00-06:00",
                           "SUN 22:00-25:00", "SUN 22:60-23:00", "XXX 22:00-23:00",
                           "SUN, 22:00-23:00", "SUN 2:00-3:00", "sun 02:00-03:00"}) {
    auto parsed = parse_blackout(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().status, ExitStatus::kUsage) << text;
    EXPECT_NE(parsed.error().what.find(std::string("\"") + text + "\""), std::string::npos);
  }
}

TEST(BlackoutWindow, GoesThroughAMessageAndBack) {
  const std::vector<BlackoutWindow> windows = {parse_blackout("SUN,WED 22:00-06:00").value(),
                                               parse_blackout("SAT 00:00-24:00").value()};
  capnp::MallocMessageBuilder message;
  auto list = message.initRoot<rpc::Relationship>().initBlackouts(2);
  write_blackouts(windows, list);
  EXPECT_EQ(std::string(list[0].getDays()[1].cStr()), "WED");
  EXPECT_EQ(std::string(list[1].getEnd().cStr()), "24:00");
  EXPECT_EQ(read_blackouts(list.asReader()).value(), windows);
}

TEST(BlackoutWindow, OfAMessageIsCheckedLikeTextAndQuotedAsText) {
  capnp::MallocMessageBuilder message;
  auto list = message.initRoot<rpc::Relationship>().initBlackouts(1);
  list[0].setStart("22:00");
  list[0].setEnd("06:00");
  EXPECT_FALSE(read_blackouts(list.asReader()));  // no day
  list[0].initDays(1).set(0, "MON");
  EXPECT_TRUE(read_blackouts(list.asReader()));
  list[0].setEnd("25:00");
  auto refused = read_blackouts(list.asReader());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("\"MON 22:00-25:00\""), std::string::npos);
}

TEST(BlackoutSchedule, WindowRunsIntoTheNextDay) {
  auto s = schedule({"SAT 22:00-06:00"}, "UTC");
  EXPECT_FALSE(s.active(utc("2026-03-07 21:59")));  // a Saturday
  EXPECT_TRUE(s.active(utc("2026-03-07 22:00")));
  EXPECT_TRUE(s.active(utc("2026-03-08 05:59")));
  EXPECT_FALSE(s.active(utc("2026-03-08 06:00")));
}

TEST(BlackoutSchedule, SaturdayNightWrapsIntoTheNextWeek) {
  auto s = schedule({"SAT 23:00-01:00"}, "UTC");
  EXPECT_TRUE(s.active(utc("2026-03-08 00:59")));  // Sunday begins the week
  EXPECT_FALSE(s.active(utc("2026-03-08 01:00")));
}

TEST(BlackoutSchedule, FollowsCivilTimeThroughDaylightSaving) {
  auto s = schedule({"SUN 08:00-10:00"}, "Europe/Berlin");
  EXPECT_FALSE(s.active(utc("2026-03-22 06:59")));  // winter: 08:00 is 07:00 UTC
  EXPECT_TRUE(s.active(utc("2026-03-22 07:00")));
  EXPECT_TRUE(s.active(utc("2026-03-29 06:00")));  // the clocks went forward that night
  EXPECT_FALSE(s.active(utc("2026-03-29 08:00")));
}

TEST(BlackoutSchedule, NextChangeCrossesTheShiftOfTheClocks) {
  // 02:30 does not exist on that night: the window has begun as soon as it is 03:00.
  auto s = schedule({"SUN 02:30-05:00"}, "Europe/Berlin");
  EXPECT_EQ(s.next_change(utc("2026-03-29 00:00")), utc("2026-03-29 01:00"));
  EXPECT_EQ(s.next_change(utc("2026-03-29 01:00")), utc("2026-03-29 03:00"));
}

TEST(BlackoutSchedule, OverlappingWindowsAreOne) {
  auto s = schedule({"MON 10:00-12:00", "MON 11:00-13:00"}, "UTC");
  EXPECT_EQ(s.next_change(utc("2026-03-09 10:30")), utc("2026-03-09 13:00"));
}

TEST(BlackoutSchedule, NoWindowsNeverChange) {
  BlackoutSchedule s;
  EXPECT_FALSE(s.active(utc("2026-03-09 10:30")));
  EXPECT_FALSE(s.next_change(utc("2026-03-09 10:30")));
}

TEST(BlackoutSchedule, WholeWeekIsRefused) {
  std::vector<BlackoutWindow> windows = {
      parse_blackout("SUN,MON,TUE,WED,THU,FRI,SAT 00:00-12:00").value(),
      parse_blackout("SUN,MON,TUE,WED,THU,FRI,SAT 12:00-24:00").value()};
  EXPECT_FALSE(BlackoutSchedule::make(windows, "UTC"));
  windows.pop_back();
  EXPECT_TRUE(BlackoutSchedule::make(windows, "UTC"));
}

TEST(BlackoutSchedule, UnknownZoneAndTooManyWindowsAreRefused) {
  EXPECT_FALSE(BlackoutSchedule::make({}, "Europe/Nowhere"));
  std::vector<BlackoutWindow> many(kMaxBlackouts + 1, parse_blackout("MON 10:00-11:00").value());
  EXPECT_FALSE(BlackoutSchedule::make(many, "UTC"));
}

}  // namespace
}  // namespace epochfs::replicator
