// Logging: what does a line look like, can a name from outside forge one, and is a line that comes
// again and again held back?
#include "journal/base/logging.h"

#include <regex>

#include "tests/support/expect.h"

namespace epochfs {
namespace {

using namespace std::chrono_literals;

std::string written(const std::function<void()>& body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Logging, ALineHasTimeLevelProcessTextAndFields) {
  log::begin("serve");
  const std::string line = written([] {
    log::warning(
        "the peer does not answer",
        {{"relationship", "8f3a"}, {"port", 3712}, {"error", Error{"connect to b", ETIMEDOUT}}});
  });
  EXPECT_TRUE(std::regex_match(
      line, std::regex(
                R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning serve: the peer does not answer )"
                R"(relationship=8f3a port=3712 error="connect to b: Connection timed out"\n)")))
      << line;
}

TEST(Logging, LinesBelowTheLeastLevelAreNotWritten) {
  log::begin("serve", log::Level::kWarning);
  EXPECT_EQ(written([] { log::info("nothing of note"); }), "");
  EXPECT_NE(written([] { log::error("something of note"); }), "");
}

TEST(Logging, AFieldCannotForgeALine) {
  const std::string line = log::line_of(
      "found", {{"path", "a\n2026 error serve: b\x1b[31m"}, {"empty", ""}, {"quote", "say \"a\""}});
  EXPECT_EQ(line.find('\n'), line.npos);
  EXPECT_EQ(line.find('\x1b'), line.npos);
  EXPECT_NE(line.find(R"(empty="" quote="say \"a\"")"), line.npos) << line;
}

TEST(Logging, ALineThatComesAgainIsHeldBackAndCounted) {
  log::RateLimit limit;
  const log::RateLimit::Time begin{};
  EXPECT_EQ(limit.pass("a", begin), 0u);
  EXPECT_EQ(limit.pass("a", begin + 1s), std::nullopt);
  EXPECT_EQ(limit.pass("b", begin + 1s), 0u) << "another line";
  EXPECT_EQ(limit.pass("a", begin + 59s), std::nullopt);
  EXPECT_EQ(limit.pass("a", begin + 60s), 2u);
  EXPECT_EQ(limit.pass("a", begin + 61s), std::nullopt);
}

TEST(Logging, TheWriterHoldsRepetitionsBack) {
  log::begin("serve");
  const std::string lines = written([] {
    for (int i = 0; i < 1000; ++i) log::error("the disk is full");
  });
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
}

TEST(Logging, TheMemoryOfLinesIsBounded) {
  log::RateLimit limit;
  const log::RateLimit::Time begin{};
  for (size_t i = 0; i < 3 * log::RateLimit::kMaxLines; ++i) {
    EXPECT_EQ(limit.pass(std::to_string(i), begin), 0u);
  }
  EXPECT_EQ(limit.pass(std::to_string(3 * log::RateLimit::kMaxLines - 1), begin), std::nullopt);
  EXPECT_EQ(limit.pass("0", begin), 0u) << "forgotten with the others";
}

}  // namespace
}  // namespace epochfs
