// Does no data move inside a blackout window, and does it go on by itself after one?
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "tests/e2e/odd_trees.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr const char* kDays[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"};

tm utc(time_t at) {
  tm parts;
  ::gmtime_r(&at, &parts);
  return parts;
}

// Today and tomorrow, so that midnight may come during the test.
std::string window_that_covers_now() {
  const time_t now = ::time(nullptr);
  return fmt::format("{},{} 00:00-24:00", kDays[utc(now).tm_wday],
                     kDays[utc(now + 24 * 3600).tm_wday]);
}

std::string window_in_two_days() {
  return fmt::format("{} 00:00-24:00", kDays[utc(::time(nullptr) + 3 * 24 * 3600).tm_wday]);
}

class BlackoutTest : public TwoHosts {
 protected:
  void edit(const std::string& window) {
    a().must({"relationship", "edit", replica().id(), "--blackout", window, "--time-zone", "UTC"});
  }
  uint64_t bytes_sent() { return replica().status().bytes_sent; }
};

TEST_F(BlackoutTest, StopsAndResumes) {
  establish();
  write_file(data() + "/before", "before");
  ASSERT_TRUE(replica().becomes_equal());

  edit(window_that_covers_now());
  replica().await_state("Blackout Window");
  EXPECT_NE(replica().status().detail.find("until 2"), std::string::npos)
      << replica().status().detail;
  const TreeSnapshot held = snapshot(copy());
  const ReplicaStatus before = replica().status();
  write_file(data() + "/within", "within the window");
  const uint64_t epoch = replica().barrier();
  EXPECT_EQ(
      a().epochfs({"wait", replica().id(), "--epoch", std::to_string(epoch), "--timeout", "3"})
          .status,
      8);
  EXPECT_TRUE(same_tree(held, snapshot(copy())));
  EXPECT_EQ(replica().status().bytes_sent, before.bytes_sent);
  EXPECT_EQ(replica().status().recovery_epoch, before.recovery_epoch);

  edit("none");
  replica().wait_for_epoch(epoch);
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_NE(replica().state(), "Blackout Window");
}

TEST_F(BlackoutTest, StopsInTheMiddleOfAFileAndLosesNoProgress) {
  constexpr uint64_t kBytes = uint64_t{2000} << 20;
  establish();
  replica().wait_until_idle();
  // Complete before any of it is sent: a file that still grows is sent anew.
  a().must({"relationship", "disable", replica().id()});
  write_large_file(data() + "/large", kBytes, 3);
  const uint64_t epoch = replica().barrier();
  const uint64_t before = bytes_sent();
  a().must({"relationship", "enable", replica().id()});
  ReplicaStatus begun;
  eventually("some of the file is sent", [&] {
    begun = replica().status();
    return begun.bytes_sent > before + (50 << 20);
  });
  EXPECT_NEAR(begun.percent, 100.0 * double(begun.bytes_sent - before) / double(kBytes), 5)
      << "of a single file, too, is said how much is done";
  edit(window_that_covers_now());
  replica().await_state("Blackout Window");
  // Within a second.
  std::this_thread::sleep_for(Milliseconds(1000));
  const uint64_t stopped_at = bytes_sent();
  std::this_thread::sleep_for(Milliseconds(1500));
  EXPECT_EQ(bytes_sent(), stopped_at);
  EXPECT_LT(stopped_at - before, kBytes) << "the file was sent before the window began";

  edit("none");
  replica().wait_for_epoch(epoch);
  EXPECT_TRUE(replica().becomes_equal());
  // What arrived before the window is not sent again, but for what was in flight.
  EXPECT_LT(bytes_sent() - before, kBytes + (64 << 20));
}

TEST_F(BlackoutTest, StopsInTheMiddleOfTheInitialCopy) {
  constexpr uint64_t kFiles = 20'000;
  make_many_files(data() + "/many", 50, kFiles);
  establish();
  eventually("some files are sent", [&] { return replica().status().files_sent > 500; });
  edit(window_that_covers_now());
  replica().await_state("Blackout Window");
  std::this_thread::sleep_for(Milliseconds(1000));
  const ReplicaStatus stopped = replica().status();
  std::this_thread::sleep_for(Milliseconds(1500));
  EXPECT_EQ(replica().status().files_sent, stopped.files_sent);
  EXPECT_EQ(bytes_sent(), stopped.bytes_sent);
  EXPECT_LT(stopped.files_sent, kFiles) << "the copy was over before the window began";
  EXPECT_EQ(stopped.recovery_epoch, 0u);
  edit("none");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(BlackoutTest, OneThatIsOverOrYetToComeStopsNothing) {
  start_daemons();
  a().mount(data());
  replica().establish({"--blackout", window_in_two_days(), "--time-zone", "UTC"});
  write_file(data() + "/file", "arrives");
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_NE(replica().state(), "Blackout Window");
}

// The target's administrator can decide meanwhile; only data has to wait.
TEST_F(BlackoutTest, ARelationshipCanBeAgreedOnWithinOne) {
  write_file(data() + "/file", "has to wait");
  start_daemons();
  a().mount(data());
  replica().establish({"--blackout", window_that_covers_now(), "--time-zone", "UTC"});
  replica().await_state("Blackout Window");
  EXPECT_EQ(a().epochfs({"wait", replica().id(), "--timeout", "2"}).status, 8);
  EXPECT_EQ(snapshot(copy()).size(), 1u);
  edit("none");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(BlackoutTest, StillHoldsAfterARestart) {
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  edit(window_that_covers_now());
  replica().await_state("Blackout Window");
  a().kill_daemon();
  write_file(data() + "/file", "has to wait");
  a().start_daemon();
  replica().await_state("Blackout Window");
  EXPECT_EQ(a().epochfs({"wait", replica().id(), "--idle", "--timeout", "2"}).status, 8);
  EXPECT_EQ(snapshot(copy()).size(), 1u);
  edit("none");
  EXPECT_TRUE(replica().becomes_equal());
}

// ---- refused ----

struct Refused {
  const char* name;
  Arguments windows;
  const char* said;
};

void PrintTo(const Refused& refused, std::ostream* out) { *out << refused.name; }

const Arguments kElevenWindows(11, "MON 10:00-11:00");

const Refused kRefused[] = {
    {"NoTimes", {"MON"}, "MON"},
    {"NoDay", {"22:00-06:00"}, "22:00-06:00"},
    {"UnknownDay", {"MONDAY 22:00-06:00"}, "MONDAY"},
    {"TwentyFiveHours", {"MON 22:00-25:00"}, "22:00-25:00"},
    {"SixtyMinutes", {"MON 22:60-23:00"}, "22:60-23:00"},
    {"StartIsEnd", {"MON 22:00-22:00"}, "equal"},
    {"WholeWeek", {"SUN,MON,TUE,WED,THU,FRI,SAT 00:00-24:00"}, "whole week"},
    {"WholeWeekInTwo",
     {"SUN,MON,TUE,WED,THU,FRI,SAT 00:00-13:00", "SUN,MON,TUE,WED,THU,FRI,SAT 12:00-24:00"},
     "whole week"},
    {"Eleven", kElevenWindows, "at most 10"},
};

class RefusedBlackoutTest : public BlackoutTest, public ::testing::WithParamInterface<Refused> {};

TEST_P(RefusedBlackoutTest, IsAUsageErrorThatNamesIt) {
  start_daemons();
  a().mount(data());
  Arguments more = {"--time-zone", "UTC"};
  for (const std::string& window : GetParam().windows) {
    more.insert(more.end(), {"--blackout", window});
  }
  const Outcome created = a().epochfs(replica().create_arguments(more));
  EXPECT_EQ(created.status, 2);
  EXPECT_NE(created.err.find(GetParam().said), std::string::npos) << created.err;
  EXPECT_EQ(a().epochfs({"relationship", "list"}).status, 4);

  replica().create();
  Arguments edited = {"relationship", "edit", replica().id()};
  edited.insert(edited.end(), more.begin(), more.end());
  EXPECT_EQ(a().epochfs(edited).status, 2);
}

INSTANTIATE_TEST_SUITE_P(Of, RefusedBlackoutTest, ::testing::ValuesIn(kRefused),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(BlackoutTest, AnUnknownTimeZoneIsAUsageError) {
  start_daemons();
  a().mount(data());
  const Outcome created = a().epochfs(replica().create_arguments({"--time-zone", "Mars/Olympus"}));
  EXPECT_EQ(created.status, 2);
  EXPECT_NE(created.err.find("Mars/Olympus"), std::string::npos) << created.err;
}

}  // namespace
}  // namespace epochfs::testing
