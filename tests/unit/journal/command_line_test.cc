// Command line: are options read, help printed and errors named as DESIGN.md has
// it?
#include "journal/control/command_line.h"

#include "tests/unit/support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;
namespace po = boost::program_options;

const CommandHelp kHelp = {"epochfs cut DIR [--json]", "Cuts."};

Result<Parsed> parse(const Arguments& arguments, bool last_takes_all = false) {
  po::options_description options;
  options.add_options()("json", "one object a line")(
      "interval", po::value<Number>()->value_name("MS"), "how often")(
      "dir", po::value<std::vector<std::string>>()->required(), "");
  return parse_command(kHelp, options, {"dir"}, arguments, last_takes_all);
}

std::string usage_error(const Arguments& arguments) {
  auto parsed = parse(arguments);
  if (parsed) return "no error";
  EXPECT_EQ(parsed.error().status, ExitStatus::kUsage);
  return parsed.error().message();
}

TEST(CommandLine, OptionsAndBareArgumentsAreRead) {
  auto parsed = must(parse({"--json", "/srv", "--interval", "5"}));
  EXPECT_TRUE(parsed.values.count("json"));
  EXPECT_EQ(parsed.values["interval"].as<Number>().value, 5u);
  EXPECT_EQ(parsed.values["dir"].as<std::vector<std::string>>(), std::vector<std::string>{"/srv"});
  EXPECT_FALSE(parsed.help_shown);
}

TEST(CommandLine, EverythingBehindTwoDashesIsBare) {
  auto parsed = must(parse({"--", "--json"}));
  EXPECT_EQ(parsed.values["dir"].as<std::vector<std::string>>(),
            std::vector<std::string>{"--json"});
}

TEST(CommandLine, LastBareArgumentTakesAllWhenAsked) {
  EXPECT_EQ(must(parse({"a", "b", "c"}, true)).values["dir"].as<std::vector<std::string>>().size(),
            3u);
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
  auto parsed = parse_command(help, {}, {}, {"--unknown"});
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
