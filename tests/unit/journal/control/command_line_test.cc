// Command line: are options read, help printed and errors named as DESIGN.md has
// it?
#include "journal/control/command_line.h"

#include "tests/support/expect.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

const CommandHelp kHelp = {"epochfs cut DIR [--json]", "Cuts."};

Result<Parsed> parse(const Arguments& arguments, bool last_takes_all = false) {
  Options options;
  options.flag("json", "one object a line").number("interval", "MS", "how often");
  last_takes_all ? options.arguments("dir") : options.argument("dir");
  return parse_command(kHelp, options, arguments);
}

std::string usage_error(const Arguments& arguments) {
  auto parsed = parse(arguments);
  if (parsed) return "no error";
  EXPECT_EQ(parsed.error().status, ExitStatus::kUsage);
  return parsed.error().message();
}

TEST(CommandLine, OptionsAndBareArgumentsAreRead) {
  auto parsed = must(parse({"--json", "/srv", "--interval", "5"}));
  EXPECT_TRUE(parsed.has("json"));
  EXPECT_EQ(parsed.number("interval"), 5u);
  EXPECT_EQ(parsed.text("dir"), "/srv");
  EXPECT_FALSE(parsed.help_shown);
}

TEST(CommandLine, EverythingBehindTwoDashesIsBare) {
  auto parsed = must(parse({"--", "--json"}));
  EXPECT_EQ(parsed.text("dir"), "--json");
}

TEST(CommandLine, LastBareArgumentTakesAllWhenAsked) {
  EXPECT_EQ(must(parse({"a", "b", "c"}, true)).texts("dir").size(), 3u);
}

TEST(CommandLine, ErrorsNameWhatIsWrongAndTheUsage) {
  for (const auto& [arguments, part] : std::vector<std::pair<Arguments, std::string>>{
           {{}, "missing argument"},
           {{"/srv", "/other"}, "too many arguments"},
           {{"/srv", "--unknown"}, "--unknown"},
           {{"/srv", "--jso"}, "--jso"},  // no guessing
           {{"/srv", "--interval", "soon"}, "soon"},
           {{"/srv", "--interval", "-1"}, "-1"},
           {{"/srv", "--interval", "5s"}, "5s"},
           {{"/srv", "--interval", "99999999999999999999"}, "9999"},
           {{"/srv", "--interval"}, "--interval"},
           {{"/srv", "--json", "--json"}, "--json"}}) {
    const std::string message = usage_error(arguments);
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_NE(message.find(kHelp.usage), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << "one line";
  }
}

TEST(CommandLine, AnErrorIsOneLineWhereTheUsageIsNot) {
  const CommandHelp help = {"epochfs cut DIR\n       [--json]", "Cuts."};
  auto parsed = parse_command(help, Options(), {"--unknown"});
  ASSERT_FALSE(parsed);
  EXPECT_TRUE(parsed.error().message().ends_with("usage: epochfs cut DIR [--json]"))
      << parsed.error().message();
}

TEST(CommandLine, HelpGoesToStdoutAndHidesBareArguments) {
  for (const char* option : {"--help", "-h"}) {
    ::testing::internal::CaptureStdout();
    auto parsed = must(parse({option}));  // although an argument is missing
    const std::string out = ::testing::internal::GetCapturedStdout();
    EXPECT_TRUE(parsed.help_shown);
    EXPECT_NE(out.find("usage: " + kHelp.usage), std::string::npos);
    EXPECT_NE(out.find("--interval MS"), std::string::npos);
    EXPECT_EQ(out.find("--dir"), std::string::npos);
  }
}

TEST(CommandLine, ReportPrintsOneLineAndReturnsTheStatus) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(report({"append segment 0007", ENOSPC, ExitStatus::kCorrupt}), 5);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "epochfs: append segment 0007: No space left on device\n");
}

}  // namespace
}  // namespace epochfs::journal
