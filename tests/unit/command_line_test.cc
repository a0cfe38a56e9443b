// Command line: are options read, help printed and errors named as DESIGN.md has
// it? And `epochfs journal`, the commands of this folder.
#include "journal/command_line.h"

#include "journal/commands.h"
#include "tests/unit/journal_support.h"

namespace epochfs {
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

// ---- epochfs journal list ----

class List : public JournalTest {
 protected:
  void SetUp() override {
    open();
    Record r = create_of(5, "a name\n\xff");
    r.caller = {1000, 100, 4242};
    journal_->append(r);
    seal_and_publish();
    r = write_of(6, 100, 150);
    journal_->append(r);
    r = write_of(6, 200, ByteRange::kEndOfFile);
    r.type = RecordType::kTruncate;
    journal_->append(r);
    seal_and_publish();
  }
  int list(Arguments options = {}) {
    Arguments arguments = {"list", volume_.path()};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run(arguments);
  }
  int run(const Arguments& arguments) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int status = journal_command(arguments);
    std::fflush(stdout);
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return status;
  }
  size_t lines() const { return size_t(std::count(out_.begin(), out_.end(), '\n')); }

  std::string out_, err_;
};

TEST_F(List, PrintsOneLineForEachRecord) {
  EXPECT_EQ(list(), 0);
  EXPECT_EQ(lines(), 5u);
  EXPECT_NE(out_.find("  create "), std::string::npos);
  EXPECT_NE(out_.find("2/a name\\n\\xff\n"), std::string::npos) << out_;
  EXPECT_NE(out_.find("  100+50\n"), std::string::npos) << out_;
  EXPECT_NE(out_.find("  200+\n"), std::string::npos) << out_;
  EXPECT_EQ(err_, "");
}

TEST_F(List, PrintsOneObjectForEachRecord) {
  EXPECT_EQ(list({"--json"}), 0);
  EXPECT_EQ(lines(), 5u);
  EXPECT_NE(out_.find("\"a name\\\\n\\\\xff\""), std::string::npos) << out_;
  EXPECT_NE(out_.find("\"YSBuYW1lCv8=\""), std::string::npos) << out_;
  EXPECT_NE(out_.find("\"18446744073709551"), std::string::npos) << "64 bits as a string";
}

TEST_F(List, SelectsEpochs) {
  EXPECT_EQ(list({"--epoch", "2"}), 0);
  EXPECT_EQ(lines(), 3u);
  EXPECT_EQ(list({"--epoch", "..1"}), 0);
  EXPECT_EQ(lines(), 2u);
  EXPECT_EQ(list({"--epoch", "1..2", "--limit", "4"}), 0);
  EXPECT_EQ(lines(), 4u);
}

TEST_F(List, NothingSelectedIsStatusFour) {
  EXPECT_EQ(list({"--epoch", "7.."}), 4);
  EXPECT_EQ(out_, "");
  EXPECT_EQ(list({"--limit", "0"}), 4);
}

TEST_F(List, DamageIsNamedOnStderrAndStatusFive) {
  kill();
  poke_log(Lsn{kSegmentHeaderBytes + 20}, "damage");
  EXPECT_EQ(list(), 5);
  EXPECT_EQ(lines(), 4u) << "the rest is listed";
  EXPECT_NE(err_.find("at LSN 64"), std::string::npos) << err_;
}

TEST_F(List, BadRangesAndSubcommandsAreUsageErrors) {
  for (const char* range : {"", "..", "2..1", "a", "1...2", "-1", "1..2..3"}) {
    EXPECT_EQ(list({"--epoch", range}), 2) << range;
    EXPECT_EQ(out_, "");
  }
  EXPECT_EQ(list({"--limit", "-1"}), 2);
  EXPECT_EQ(list({"--limit", "many"}), 2);
  EXPECT_EQ(run({}), 2);
  EXPECT_EQ(run({"burn"}), 2);
  EXPECT_EQ(run({"list"}), 2);
}

TEST_F(List, PathThatIsNoJournalNamesTheRemedy) {
  EXPECT_EQ(run({"list", dir_.path()}), 1);
  EXPECT_NE(err_.find("epochfs mount"), std::string::npos);
  EXPECT_EQ(run({"list", dir_ / "nowhere"}), 1);
}

}  // namespace
}  // namespace epochfs
