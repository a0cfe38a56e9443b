// Filter: which records do these options ask for, and which options are refused?
#include "journal/commands/query/filter.h"

#include "tests/support/expect.h"

namespace epochfs::testing {
namespace {

constexpr uint64_t kNow = 1'795'442'700'000'000'000;

Result<journal::RecordFilter> parse(const Arguments& arguments,
                                    const std::vector<std::string>& roots = {"/srv/data"}) {
  Options options;
  journal::RecordFilter::add_options(options);
  EPOCHFS_TRY(auto parsed, parse_command({"epochfs journal list", ""}, options, arguments));
  return journal::RecordFilter::parse(parsed, roots, kNow);
}

journal::RecordHead head(journal::RecordType type = journal::RecordType::kWrite) {
  journal::RecordHead h;
  h.type = type;
  h.time_ns = kNow - 60'000'000'000;
  h.epoch = EpochId{5};
  h.caller = {1000, 100, 4242};
  h.file = {77, 99};
  return h;
}
bool accepts(const Arguments& arguments, const journal::RecordHead& h = head()) {
  return must(parse(arguments)).accepts(h);
}

TEST(Filter, WithoutOptionsAllButPadding) {
  EXPECT_TRUE(accepts({}));
  EXPECT_FALSE(accepts({}, head(journal::RecordType::kPadding)));
}

TEST(Filter, TimesAreInclusive) {
  EXPECT_TRUE(accepts({"--since", "1m"}));
  EXPECT_TRUE(accepts({"--until", "1m"}));
  EXPECT_FALSE(accepts({"--since", "59s"}));
  EXPECT_FALSE(accepts({"--until", "61s"}));
  EXPECT_TRUE(accepts({"--since", "2m", "--until", "now"}));
}

TEST(Filter, Epochs) {
  for (const char* range : {"5", "5..", "..5", "4..6", "5..5"}) {
    EXPECT_TRUE(accepts({"--epoch", range})) << range;
  }
  for (const char* range : {"4", "6..", "..4", "1..3"}) {
    EXPECT_FALSE(accepts({"--epoch", range})) << range;
  }
}

TEST(Filter, TypesAndTheirExclusion) {
  EXPECT_TRUE(accepts({"--type", "create,write"}));
  EXPECT_FALSE(accepts({"--type", "create,rename"}));
  EXPECT_FALSE(accepts({"--type", "!write"}));
  EXPECT_TRUE(accepts({"--type", "!seal,!gap"}));
  EXPECT_FALSE(accepts({"--type", "create,write,!write"}));
}

TEST(Filter, WritersAndFiles) {
  EXPECT_TRUE(accepts({"--uid", "0,1000"}));
  EXPECT_TRUE(accepts({"--uid", "0", "--uid", "1000"}));
  EXPECT_FALSE(accepts({"--uid", "0"}));
  EXPECT_TRUE(accepts({"--pid", "4242"}));
  EXPECT_FALSE(accepts({"--pid", "4243"}));
  EXPECT_TRUE(accepts({"--file", "77"}));
  EXPECT_TRUE(accepts({"--file", "77:99"}));
  EXPECT_FALSE(accepts({"--file", "77:98"}));
  EXPECT_FALSE(accepts({"--file", "78"}));
}

TEST(Filter, AFileThatWasInTheWayOfARenameCountsToo) {
  const auto filter = must(parse({"--file", "78"}));
  EXPECT_TRUE(filter.accepts(head(journal::RecordType::kRename))) << "only the operands can tell";
  journal::Record r;
  r.file = {77, 99};
  EXPECT_FALSE(filter.accepts_operands(r));
  r.other = {78, 1};
  EXPECT_TRUE(filter.accepts_operands(r));
}

bool matches(const std::string& glob, const std::string& path) {
  return must(parse({"--path", glob})).globs().match(path);
}

TEST(Filter, GlobsMatchPathsAndAllBelow) {
  EXPECT_TRUE(matches("logs", "logs"));
  EXPECT_TRUE(matches("logs", "logs/a/b"));
  EXPECT_FALSE(matches("logs", "logs2"));
  EXPECT_FALSE(matches("logs", "a/logs"));
  EXPECT_TRUE(matches("*.txt", "a/b.txt")) << "* matches / too";
  EXPECT_TRUE(matches("*/logs", "a/logs/x"));
  EXPECT_TRUE(matches("a?c/[xy]", "abc/x/deep"));
  EXPECT_TRUE(matches("logs/", "logs/a"));
  EXPECT_TRUE(matches("/", "anything"));
}

TEST(Filter, AbsoluteGlobsBelowTheVolumeAreRelative) {
  EXPECT_TRUE(matches("/srv/data/logs", "logs/a"));
  EXPECT_TRUE(matches("/srv/data", "logs/a"));
  EXPECT_FALSE(matches("/srv/database", "base"));
}

TEST(Filter, EveryOptionRefusesWhatItDoesNotUnderstand) {
  struct Row {
    Arguments arguments;
    std::vector<std::string> said;
  };
  const Row rows[] = {
      {{"--since", "soon"}, {"--since", "soon", "10m"}},
      {{"--until", ""}, {"--until", "10m"}},
      {{"--since", "1m", "--until", "2m"}, {"--since", "--until", "exchange"}},
      {{"--epoch", ""}, {"--epoch", "A..B"}},
      {{"--epoch", ".."}, {"--epoch", "A..B"}},
      {{"--epoch", "2..1"}, {"--epoch", "2..1", "A..B"}},
      {{"--epoch", "1...2"}, {"--epoch", "1...2"}},
      {{"--epoch", "-1"}, {"--epoch", "-1"}},
      {{"--epoch", "1..2..3"}, {"--epoch", "1..2..3"}},
      {{"--epoch", "18446744073709551616"}, {"--epoch", "18446744073709551616"}},
      {{"--type", "burn"}, {"--type", "burn", "create, mkdir"}},
      {{"--type", ""}, {"--type", "create, mkdir"}},
      {{"--type", "create,"}, {"--type", "create, mkdir"}},
      {{"--type", "!"}, {"--type", "create, mkdir"}},
      {{"--type", "padding"}, {"--type", "padding"}},
      {{"--type", "write,!write"}, {"--type", "leaves no operation"}},
      {{"--uid", "root"}, {"--uid", "root", "number"}},
      {{"--uid", "1,,2"}, {"--uid", "number"}},
      {{"--uid", "4294967296"}, {"--uid", "4294967296"}},
      {{"--pid", "-1"}, {"--pid", "-1"}},
      {{"--file", "name"}, {"--file", "name", "INODE:BIRTH"}},
      {{"--file", "1:"}, {"--file", "1:", "INODE:BIRTH"}},
      {{"--file", ":1"}, {"--file", ":1"}},
      {{"--path", ""}, {"--path", "glob"}},
  };
  for (const Row& row : rows) {
    auto filter = parse(row.arguments);
    ASSERT_FALSE(filter.has_value()) << row.arguments[0] << " " << row.arguments[1];
    EXPECT_EQ(filter.error().status, ExitStatus::kUsage);
    for (const std::string& part : row.said) {
      EXPECT_NE(filter.error().message().find(part), std::string::npos)
          << filter.error().message() << " does not say " << part;
    }
  }
}

}  // namespace
}  // namespace epochfs::testing
