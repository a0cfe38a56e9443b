// TimeText: which moments do these words mean?
#include <cstdlib>
#include <ctime>

#include "journal/commands/query/time_text.h"
#include "tests/support/expect.h"

namespace epochfs::testing {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kNow = 1'795'442'700 * kSecond;  // 2026-11-23T14:05:00Z

uint64_t read(const std::string& text) { return must(journal::parse_time("--since", text, kNow)); }

class TimeText : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "CET-1", 1);
    ::tzset();
  }
  void TearDown() override {
    ::unsetenv("TZ");
    ::tzset();
  }
};

TEST_F(TimeText, CivilTimesInEveryForm) {
  EXPECT_EQ(read("2026-11-23T14:05:00Z"), kNow);
  EXPECT_EQ(read("2026-11-23T14:05Z"), kNow);
  EXPECT_EQ(read("2026-11-23 14:05:00Z"), kNow);
  EXPECT_EQ(read("2026-11-23T16:05:00+02:00"), kNow);
  EXPECT_EQ(read("2026-11-23T09:35:00-0430"), kNow);
  EXPECT_EQ(read("2026-11-23T14:05:00.25Z"), kNow + kSecond / 4);
  EXPECT_EQ(read("2026-11-23T14:05:00.1234567899Z"), kNow + 123'456'789);
}

TEST_F(TimeText, WithoutAZoneItIsLocal) {
  EXPECT_EQ(read("2026-11-23T15:05:00"), kNow);
  EXPECT_EQ(read("2026-11-23"), kNow - (15 * 3600 + 5 * 60) * kSecond);
  EXPECT_EQ(read("2024-02-29"), read("2024-02-29T00:00:00+01:00"));
}

TEST_F(TimeText, SecondsSince1970) {
  EXPECT_EQ(read("1795442700"), kNow);
  EXPECT_EQ(read("@1795442700.5"), kNow + kSecond / 2);
  EXPECT_EQ(read("@0"), 0u);
  EXPECT_EQ(read("@17"), 17 * kSecond);
}

TEST_F(TimeText, HowLongAgo) {
  EXPECT_EQ(read("now"), kNow);
  EXPECT_EQ(read("90s"), kNow - 90 * kSecond);
  EXPECT_EQ(read("10m"), kNow - 600 * kSecond);
  EXPECT_EQ(read("2h"), kNow - 7200 * kSecond);
  EXPECT_EQ(read("3d"), kNow - 3 * 86400 * kSecond);
  EXPECT_EQ(read("1w"), kNow - 7 * 86400 * kSecond);
  EXPECT_EQ(read("18446744073709551615d"), 0u) << "before everything";
}

TEST_F(TimeText, WhatIsNoTimeNamesOptionTextAndRemedy) {
  for (const char* text : {"",
                           " ",
                           "yesterday",
                           "2026",
                           "20261123",
                           "2026-11",
                           "2026-11-31",
                           "2026-02-29",
                           "2026-13-01",
                           "2026-11-23T",
                           "2026-11-23T14",
                           "2026-11-23T24:00",
                           "2026-11-23T14:60",
                           "2026-11-23T14:05:61",
                           "2026-11-23T14:05:00.",
                           "2026-11-23T14:05:00+1",
                           "2026-11-23T14:05Zz",
                           "2026-11-23T14:05:00+25:00",
                           "10",
                           "m",
                           "10x",
                           "-10m",
                           "1.5h",
                           "@",
                           "@-1",
                           "@1.",
                           "18446744073709551616",
                           "99999999999999999999d",
                           "1795442700x"}) {
    auto result = journal::parse_time("--until", text, kNow);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().status, ExitStatus::kUsage);
    const std::string message = result.error().message();
    EXPECT_NE(message.find("--until"), std::string::npos) << message;
    EXPECT_NE(message.find("\"" + std::string(text) + "\""), std::string::npos) << message;
    EXPECT_NE(message.find("10m"), std::string::npos) << message;
  }
}

TEST_F(TimeText, IsShownToTheNanosecondWithItsZone) {
  journal::LocalTime time;
  std::string out;
  time.append(kNow + 7, out);
  out += ' ';
  time.append(kNow + kSecond, out);
  EXPECT_EQ(out, "2026-11-23T15:05:00.000000007+01:00 2026-11-23T15:05:01.000000000+01:00");
  EXPECT_EQ(journal::utc_time(kNow + 7), "2026-11-23T14:05:00.000000007Z");
  EXPECT_EQ(read(journal::utc_time(kNow + 7)), kNow + 7);
}

}  // namespace
}  // namespace epochfs::testing
