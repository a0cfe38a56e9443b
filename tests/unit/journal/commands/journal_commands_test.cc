// `epochfs journal ...`: what does each subcommand print of a journal, and with which
// exit status does it end? Run in this process, over journals made by hand.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <functional>
#include <sstream>
#include <thread>

#include "journal/changes/checkpoints.h"
#include "journal/volume/cursors.h"
#include "journal/volume/labels.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/records.h"
#include "tests/unit/journal/commands/journal_commands_support.h"

namespace epochfs::testing {
namespace {

// ---- list ----

TEST_F(JournalCommands, ListPrintsOneLineForEachRecord) {
  EXPECT_EQ(list(), 0);
  EXPECT_EQ(lines(), 5u);
  EXPECT_TRUE(said("  create "));
  EXPECT_TRUE(said("  a name\\n\\xff\n")) << out_;
  EXPECT_TRUE(said("  100+50 ")) << out_;
  EXPECT_TRUE(said("  200+ ")) << out_;
  EXPECT_EQ(err_, "");
}

TEST_F(JournalCommands, ListPrintsOneObjectForEachRecord) {
  EXPECT_EQ(list({"--json"}), 0);
  EXPECT_EQ(lines(), 5u);
  for (const char* part :
       {"\"path\":\"a name\\\\n\\\\xff\"", "\"pathBase64\":\"YSBuYW1lCv8=\"", "\"lsn\":\"64\"",
        "\"uid\":1000", "\"pathKnown\":false", "\"toEnd\":true", "\"detail\":\"100+50\""}) {
    EXPECT_TRUE(said(part)) << part << " in " << out_;
  }
}

TEST_F(JournalCommands, ListSelects) {
  const std::pair<Arguments, size_t> rows[] = {
      {{"--epoch", "2"}, 3},          {{"--epoch", "..1"}, 2},  {{"--limit", "4"}, 4},
      {{"--type", "write"}, 1},       {{"--type", "!seal"}, 3}, {{"--uid", "1000"}, 1},
      {{"--pid", "4242"}, 1},         {{"--file", "6"}, 2},     {{"--since", "1h"}, 5},
      {{"--path", "a*"}, 1},          {{"--path", "#6"}, 2},    {{"--until", "now"}, 5},
      {{"--path", "/srv/data/a*"}, 1}};
  for (const auto& [options, count] : rows) {
    EXPECT_EQ(list(options), 0) << options[0] << " " << options[1];
    EXPECT_EQ(lines(), count) << options[0] << " " << options[1];
  }
}

TEST_F(JournalCommands, NothingSelectedIsStatusFour) {
  for (const Arguments& options :
       {Arguments{"--epoch", "7.."}, Arguments{"--limit", "0"}, Arguments{"--until", "1h"},
        Arguments{"--uid", "7"}, Arguments{"--path", "nothing"}}) {
    EXPECT_EQ(list(options), 4) << options[0];
    EXPECT_EQ(out_, "");
  }
}

TEST_F(JournalCommands, ReverseIsTheSameTheOtherWayRound) {
  for (int i = 0; i < 3000; ++i) append(write_of(7, uint64_t(i), uint64_t(i) + 1));  // segments
  auto lines_of = [&](const Arguments& options) {
    EXPECT_EQ(list(options), 0);
    std::vector<std::string> out;
    std::istringstream in(out_);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  };
  auto forward = lines_of({}), backward = lines_of({"--reverse"});
  EXPECT_GT(segments(), 3u);
  std::reverse(backward.begin(), backward.end());
  EXPECT_EQ(forward, backward);
  EXPECT_EQ(lines_of({"--reverse", "--limit", "1"})[0], forward.back());
  EXPECT_EQ(lines_of({"--reverse", "--epoch", "1"}).size(), 2u);
}

// Segments whose records are of one hour each, which do not follow one another.
TEST_F(JournalCommands, ClockThatWasSetBackHidesNoSegment) {
  constexpr uint64_t kHour = 3'600'000'000'000;
  while (value(journal_->statistics().tail) / kSegment < 5) append(write_of(7));
  close();
  const uint64_t now = now_ns();
  const std::vector<uint64_t> hours_ago = {1, 9, 5, 1, 9, 5};  // by segment
  std::map<uint64_t, size_t> of_hour;
  rewrite_times([&](const journal::Record& r) {
    const uint64_t ago = hours_ago.at(value(r.lsn) / kSegment);
    of_hour[ago] += r.type != journal::RecordType::kPadding;
    return now - ago * kHour;
  });
  EXPECT_EQ(list({"--since", "3h"}), 0);
  EXPECT_EQ(lines(), of_hour[1]);
  EXPECT_EQ(list({"--since", "7h"}), 0);
  EXPECT_EQ(lines(), of_hour[1] + of_hour[5]);
  EXPECT_EQ(list({"--since", "7h", "--until", "3h"}), 0);
  EXPECT_EQ(lines(), of_hour[5]);
  EXPECT_EQ(list({"--until", "7h"}), 0);
  EXPECT_EQ(lines(), of_hour[9]);
  EXPECT_EQ(list({"--since", "7h", "--reverse"}), 0);
  EXPECT_EQ(lines(), of_hour[1] + of_hour[5]);
}

TEST_F(JournalCommands, SummariesCount) {
  append(write_of(6, 0, 1000), {7, 7, 77});
  EXPECT_EQ(list({"--summary", "type"}), 0);
  EXPECT_TRUE(said("  write\n")) << out_;
  EXPECT_TRUE(said("         2             1050  ")) << out_;
  EXPECT_EQ(list({"--summary", "writer", "--json"}), 0);
  EXPECT_TRUE(said("\"uid\":7,\"pid\":77")) << out_;
  EXPECT_EQ(list({"--summary", "path", "--limit", "1"}), 0);
  EXPECT_EQ(lines(), 1u);
  EXPECT_TRUE(said("  #6\n")) << out_;
}

TEST_F(JournalCommands, DamageIsNamedOnStderrAndStatusFive) {
  kill();
  poke_log(Lsn{journal::kSegmentHeaderBytes + 20}, "damage");
  EXPECT_EQ(list(), 5);
  EXPECT_EQ(lines(), 4u) << "the rest is listed";
  EXPECT_TRUE(complained("at LSN 64")) << err_;
  EXPECT_EQ(list({"--reverse"}), 5);
  EXPECT_EQ(lines(), 4u);
}

TEST_F(JournalCommands, AClockThatWasSetBackHidesNothing) {
  kill();
  // The first segment's records claim to be of the far future.
  for (int i = 0; i < 1500; ++i) {
    if (i == 0) open();
    append(write_of(9, uint64_t(i), uint64_t(i) + 1));
  }
  kill();
  const std::string path = segment_file(0);
  std::string bytes = read_whole_file(path);
  uint32_t length;
  for (size_t at = journal::kSegmentHeaderBytes; at + 8 < bytes.size(); at += length) {
    std::memcpy(&length, bytes.data() + at, sizeof length);
    if (length == 0) break;
    const uint64_t future = now_ns() + 3'600'000'000'000;
    std::memcpy(bytes.data() + at + 24, &future, sizeof future);
    reseal({reinterpret_cast<std::byte*>(bytes.data()) + at, length});
  }
  write_file(path, bytes);
  EXPECT_EQ(list({"--until", "now", "--type", "write", "--file", "9"}), 0);
  const size_t until_now = lines();
  EXPECT_GT(until_now, 500u);
  EXPECT_EQ(list({"--since", "now", "--type", "write", "--file", "9"}), 0);
  EXPECT_EQ(until_now + lines(), 1500u);
}

// ---- what is refused ----

TEST_F(JournalCommands, BadOptionsAreUsageErrorsThatNameThem) {
  const std::pair<Arguments, std::string> rows[] = {
      {{"list", volume_.path(), "--since", "soon"}, "soon"},
      {{"list", volume_.path(), "--epoch", "2..1"}, "2..1"},
      {{"list", volume_.path(), "--type", "burn"}, "burn"},
      {{"list", volume_.path(), "--limit", "-1"}, "-1"},
      {{"list", volume_.path(), "--limit", "many"}, "many"},
      {{"list", volume_.path(), "--summary", "colour"}, "colour"},
      {{"list", volume_.path(), "--no-paths", "--path", "x"}, "--no-paths"},
      {{"list", volume_.path(), "--colour"}, "--colour"},
      {{"list", volume_.path(), "surplus"}, "too many"},
      {{"list"}, "missing argument"},
      {{"follow", volume_.path(), "--until", "never"}, "never"},
      {{"follow", volume_.path(), "--cursor", "/"}, "--cursor"},
      {{"follow"}, "missing argument"},
      {{"show", volume_.path()}, "missing argument"},
      {{"show", volume_.path(), "first"}, "first"},
      {{"epochs", volume_.path(), "--epoch", "a"}, "\"a\""},
      {{"epochs", volume_.path(), "--limit", "x"}, "x"},
      {{"epochs"}, "missing argument"},
      {{"stat"}, "missing argument"},
      {{"verify"}, "missing argument"},
      {{"verify", volume_.path(), "--repair"}, "--repair"},
      {{"burn"}, "burn"},
      {{}, "usage"}};
  for (const auto& [arguments, part] : rows) {
    EXPECT_EQ(run(arguments), 2) << part;
    EXPECT_EQ(out_, "");
    EXPECT_TRUE(complained(part)) << err_;
    EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 1) << err_;
  }
}

TEST_F(JournalCommands, PathThatIsNoJournalNamesTheRemedy) {
  for (const char* subcommand : {"list", "follow", "epochs", "stat", "verify"}) {
    EXPECT_EQ(run({subcommand, dir_.path()}), 1);
    EXPECT_TRUE(complained("epochfs mount")) << err_;
    EXPECT_EQ(run({subcommand, dir_ / "nowhere"}), 1);
    EXPECT_TRUE(complained("nowhere")) << err_;
  }
}

TEST_F(JournalCommands, EachHasItsHelp) {
  for (const char* subcommand : {"list", "follow", "show", "epochs", "stat", "verify"}) {
    EXPECT_EQ(run({subcommand, "--help"}), 0);
    EXPECT_TRUE(said(std::string("usage: epochfs journal ") + subcommand)) << out_;
    EXPECT_TRUE(said("Exit status:")) << out_;
  }
}

// ---- where it is printed to ----

TEST_F(JournalCommands, WhatStdoutDidNotTakeIsAFailure) {
  for (const Arguments& arguments :
       {Arguments{"list"}, Arguments{"list", "--json"}, Arguments{"list", "--summary", "type"},
        Arguments{"stat"}, Arguments{"epochs"}, Arguments{"verify"}, Arguments{"show", "64"},
        Arguments{"follow", "--since", "1h", "--limit", "1"}, Arguments{"list", "--help"}}) {
    Arguments all = {arguments[0], volume_.path()};
    all.insert(all.end(), arguments.begin() + 1, arguments.end());
    EXPECT_EQ(run_to("/dev/full", all), 1) << arguments[0];
    EXPECT_TRUE(complained("standard output")) << arguments[0] << err_;
    EXPECT_TRUE(complained("No space left on device")) << arguments[0] << err_;
    EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 1) << err_;
  }
}

TEST_F(JournalCommands, LongListingToAFullDiskEndsEarlyAndFails) {
  for (uint64_t i = 0; i < 5000; ++i) append(write_of(7, i, i + 1));
  for (const char* subcommand : {"list", "follow"}) {
    EXPECT_EQ(run_to("/dev/full", {subcommand, volume_.path(), "--since", "1h"}), 1);
    EXPECT_TRUE(complained("standard output")) << err_;
  }
}

// ---- show ----

TEST_F(JournalCommands, ShowSaysAllOfOneRecord) {
  EXPECT_EQ(on_journal("show", {"64"}), 0);
  for (const char* part : {"operation     create", "uid 1000 gid 100 pid 4242", "a name\\n\\xff"}) {
    EXPECT_TRUE(said(part)) << out_;
  }
  EXPECT_EQ(on_journal("show", {"64", "--json"}), 0);
  EXPECT_TRUE(said("\"operation\":\"create\"")) << out_;
}

TEST_F(JournalCommands, ShowSaysWhereTheRecordIsThatWasMeant) {
  EXPECT_EQ(on_journal("show", {"72"}), 4);
  EXPECT_TRUE(complained("within the record at 64")) << err_;
  EXPECT_EQ(on_journal("show", {"1000000000"}), 4);
  EXPECT_TRUE(complained("the journal holds 64 to")) << err_;
  EXPECT_EQ(on_journal("show", {"18446744073709551615"}), 4);
  EXPECT_EQ(on_journal("show", {"0"}), 4);
  poke_log(Lsn{64 + 20}, "damage");
  EXPECT_EQ(on_journal("show", {"64"}), 5);
}

// ---- epochs ----

TEST_F(JournalCommands, EpochsSayWhatTheyComeToAndWhoHasThem) {
  append(write_of(8, 0, 100));
  append(write_of(8, 50, 120));
  must(journal::write_cursor(Storage::system(), volume_.dir(), "abc", {EpochId{1}}));
  EXPECT_EQ(on_journal("epochs"), 0);
  EXPECT_EQ(lines(), 3u);
  EXPECT_TRUE(said("abc:replicated")) << out_;
  EXPECT_TRUE(said("abc:pending")) << out_;
  EXPECT_EQ(on_journal("epochs", {"--json", "--epoch", "3"}), 0);
  for (const char* part : {"\"epoch\":\"3\"", "\"state\":\"open\"", "\"records\":\"2\"",
                           "\"files\":\"1\"", "\"bytes\":\"120\"", "\"replicated\":false"}) {
    EXPECT_TRUE(said(part)) << part << " in " << out_;
  }
  EXPECT_EQ(on_journal("epochs", {"--json", "--epoch", "1"}), 0);
  EXPECT_TRUE(said("\"state\":\"released\"")) << out_;
  EXPECT_EQ(on_journal("epochs", {"--limit", "1", "--no-net"}), 0);
  EXPECT_EQ(lines(), 1u);
  EXPECT_TRUE(said("  open ")) << out_;
  EXPECT_EQ(on_journal("epochs", {"--epoch", "9.."}), 4);
}

TEST_F(JournalCommands, OpenEpochIsNamedWhereOldEntriesWereReleased) {
  for (int n = 0; n < 150; ++n) seal_and_publish();
  auto manifest = must(journal::EpochManifest::open(storage_, volume_.dir()));
  must(manifest.let_go_before(EpochId{150}, 10));
  EXPECT_EQ(on_journal("epochs", {"--no-net", "--json"}), 0);
  EXPECT_EQ(lines(), 25u) << "two blocks of 64 entries were released of 152";
  EXPECT_EQ(on_journal("epochs", {"--no-net", "--json", "--epoch", "153.."}), 0);
  EXPECT_TRUE(said("\"epoch\":\"153\"") && said("\"state\":\"open\"")) << out_;
  EXPECT_EQ(on_journal("epochs", {"--no-net", "--epoch", "1..100"}), 4) << out_;
  EXPECT_EQ(on_journal("stat", {"--json"}), 0);
  EXPECT_TRUE(said("\"openEpoch\":\"153\"")) << out_;
}

TEST_F(JournalCommands, EpochsAreShownWithTheirLabels) {
  const journal::SealedEpoch labelled = seal_and_publish();
  seal_and_publish();
  must(journal::write_label(Storage::system(), volume_.dir(), labelled, "before \\ after"));
  EXPECT_EQ(on_journal("epochs", {"--no-net"}), 0);
  EXPECT_TRUE(said("  label:before \\\\ after\n")) << out_;
  EXPECT_EQ(on_journal("epochs", {"--no-net", "--json", "--epoch", "3"}), 0);
  EXPECT_TRUE(said("\"label\":\"before \\\\ after\"")) << out_;
  EXPECT_EQ(on_journal("epochs", {"--no-net", "--epoch", "4"}), 0);
  EXPECT_FALSE(said("label")) << out_;
  // Damage in a label is a matter of verify.
  write_file(volume_.path() + "/labels/4", "damage");
  EXPECT_EQ(on_journal("epochs", {"--no-net", "--epoch", "4"}), 0);
  EXPECT_FALSE(said("label")) << out_;
}

// ---- stat ----

TEST_F(JournalCommands, StatCounts) {
  close();
  EXPECT_EQ(on_journal("stat"), 0);
  EXPECT_TRUE(said("state           clean")) << out_;
  EXPECT_TRUE(said("2 sealed; 3 is open, with 0 records")) << out_;
  EXPECT_EQ(on_journal("stat", {"--json"}), 0);
  for (const char* part : {"\"records\":\"5\"", "\"oldestLsn\":\"64\"", "\"operation\":\"seal\"",
                           "\"openEpoch\":\"3\"", "\"state\":\"clean\""}) {
    EXPECT_TRUE(said(part)) << part << " in " << out_;
  }
}

TEST_F(JournalCommands, StatTellsAKilledMountFromALiveOne) {
  EXPECT_EQ(on_journal("stat"), 0);
  EXPECT_TRUE(said("state           unclean")) << out_;
  ASSERT_TRUE(must(volume_.lock()));
  EXPECT_EQ(on_journal("stat"), 0);
  EXPECT_TRUE(said(fmt::format("mounted by process {}", ::getpid()))) << out_;
}

// ---- follow ----

TEST_F(JournalCommands, FollowPrintsWhatComes) {
  std::thread writer([&] {
    // From when the reader waits or before: either way it must see them.
    for (uint64_t i = 0; i < 2000; ++i) append(write_of(100 + i % 3, i, i + 1));
  });
  EXPECT_EQ(on_journal("follow", {"--epoch", "3..", "--limit", "2000"}), 0);
  writer.join();
  EXPECT_EQ(lines(), 2000u) << "through segments";
  EXPECT_TRUE(said("1999+1")) << out_;
  EXPECT_EQ(err_, "");
}

TEST_F(JournalCommands, FollowGoesOnAtItsCursor) {
  const std::string cursor = dir_ / "cursor";
  for (uint64_t i = 0; i < 10; ++i) append(write_of(7, i, i + 1));
  EXPECT_EQ(
      on_journal("follow", {"--since", "1h", "--file", "7", "--limit", "4", "--cursor", cursor}),
      0);
  EXPECT_TRUE(said(" 3+1 ")) << out_;
  EXPECT_EQ(on_journal("follow", {"--file", "7", "--limit", "6", "--cursor", cursor}), 0);
  EXPECT_TRUE(said(" 4+1 ")) << out_;
  EXPECT_TRUE(said(" 9+1 ")) << out_;
  append(write_of(7, 10, 11));
  EXPECT_EQ(on_journal("follow", {"--limit", "1", "--cursor", cursor, "--json"}), 0);
  EXPECT_TRUE(said("\"offset\":\"10\"")) << out_;
  EXPECT_FALSE(std::filesystem::exists(cursor + ".new"));
}

TEST_F(JournalCommands, FollowResolvesNamesThatCameMeanwhile) {
  journal::Record dir = create_of(50, "dir");
  dir.type = journal::RecordType::kMakeDirectory;
  append(dir);
  append(create_of(51, "file"));
  append(write_of(51));
  journal::Record r;
  r.type = journal::RecordType::kRename;
  r.file = {51, 1};
  r.parent = volume_.info().identity.root;
  r.name = "file";
  r.parent2 = {50, 1};
  r.name2 = "moved";
  append(r);
  append(write_of(51));
  EXPECT_EQ(
      on_journal("follow", {"--since", "1h", "--type", "write", "--file", "51", "--limit", "2"}),
      0);
  EXPECT_TRUE(said("  file\n")) << out_;
  EXPECT_TRUE(said("  dir/moved\n")) << out_;
}

TEST_F(JournalCommands, FollowRefusesACursorOfAnotherJournal) {
  const std::string cursor = dir_ / "cursor";
  write_file(cursor, "epochfs journal cursor 1 " + Uuid::random().to_string() + " 64\n");
  EXPECT_EQ(on_journal("follow", {"--cursor", cursor}), 2);
  EXPECT_TRUE(complained("another journal")) << err_;
  for (const char* text : {"", "64\n", "epochfs journal cursor 1 x 64\n"}) {
    write_file(cursor, text);
    EXPECT_EQ(on_journal("follow", {"--cursor", cursor}), 2) << text;
    EXPECT_TRUE(complained("no cursor")) << err_;
  }
  write_file(cursor, std::string(5000, 'x'));
  EXPECT_EQ(on_journal("follow", {"--cursor", cursor}), 2);
}

TEST_F(JournalCommands, FollowSaysWhatWasRemovedBeforeItWasRead) {
  const std::string cursor = dir_ / "cursor";
  EXPECT_EQ(on_journal("follow", {"--since", "1h", "--limit", "1", "--cursor", cursor}), 0);
  for (uint64_t i = 0; i < 2000; ++i) append(write_of(7, i, i + 1));
  std::filesystem::remove(segment_file(0));
  EXPECT_EQ(on_journal("follow", {"--limit", "1", "--cursor", cursor}), 3);
  EXPECT_TRUE(complained("were removed")) << err_;
}

// ---- verify ----

// One that has a name was copied, or its maker died before it took the name away.
TEST_F(JournalCommands, VerifyKnowsPreImageLogsOfEveryVersionUpToItsOwn) {
  const uint64_t tail = journal::kPreImageHeaderBytes;
  for (uint32_t version = 0; version <= journal::kPreImageFormatVersion + 1; ++version) {
    std::string log(tail, '\0');
    journal::kPreImageMagic.copy(log.data(), 8);
    std::memcpy(log.data() + 8, &version, sizeof version);
    std::memcpy(log.data() + 16, &tail, sizeof tail);
    write_file(volume_.path() + "/pre-images/log", log);
    EXPECT_EQ(on_journal("verify"), 0) << out_;
    const bool known = version >= 1 && version <= journal::kPreImageFormatVersion;
    EXPECT_EQ(said("no whole pre-image log"), !known) << version;
  }
}

TEST_F(JournalCommands, VerifyFindsASoundJournalSound) {
  EXPECT_EQ(on_journal("verify"), 0) << out_;
  for (uint64_t i = 0; i < 3000; ++i) append(write_of(7, i, i + 1));
  seal_and_publish();
  append(write_of(8));
  EXPECT_EQ(on_journal("verify"), 0) << out_;
  close();
  EXPECT_EQ(on_journal("verify"), 0) << out_;
  EXPECT_TRUE(said("sound\n"));
}

TEST_F(JournalCommands, VerifySaysWhereWhatIsLostAndWhatToDo) {
  close();
  poke_log(Lsn{64 + 20}, "damage");
  EXPECT_EQ(on_journal("verify"), 5);
  for (const char* part :
       {"segments/0000000000000000.seg offset 64 (LSN 64)", "bad checksum",
        "lost: at most 1 records between the beginning and epoch 1", "to do: "}) {
    EXPECT_TRUE(said(part)) << part << " in " << out_;
  }
  EXPECT_EQ(on_journal("verify", {"--json"}), 5);
  EXPECT_TRUE(said("\"severity\":\"damage\"")) << out_;
}

TEST_F(JournalCommands, VerifyNamesEveryFileThatIsDamaged) {
  for (uint64_t i = 0; i < 3000; ++i) append(write_of(7, i, i + 1));
  seal_and_publish();
  must(journal::write_cursor(Storage::system(), volume_.dir(), "abc", {EpochId{1}}));
  must(must(journal::Checkpoints::open(storage_, volume_))->extend(EpochId{0}, EpochId{1}, {}));
  must(journal::write_label(Storage::system(), volume_.dir(), {.epoch = EpochId{1}}, "x"));
  close();
  const std::string saved = dir_ / "saved";
  std::filesystem::copy(volume_.path(), saved, std::filesystem::copy_options::recursive);
  struct Row {
    const char* what;
    std::function<void()> damage;
    const char* said;
  };
  auto at = [&](const char* name) { return volume_.path() + "/" + name; };
  const Row rows[] = {
      {"a segment is missing", [&] { std::filesystem::remove(segment_file(1)); },
       "segments are missing"},
      {"a segment is cut", [&] { std::filesystem::resize_file(segment_file(1), 1000); },
       "instead of"},
      {"a segment's header", [&] { poke(segment_file(1), 20, "x"); }, "bad checksum"},
      {"a segment's magic", [&] { poke(segment_file(1), 0, std::string(8, '\0')); },
       "header is missing"},
      {"a manifest entry", [&] { poke(at("epochs"), 10, "x"); }, "entry of epoch 1 is damaged"},
      {"no manifest", [&] { std::filesystem::remove(at("epochs")); }, "the file is missing"},
      {"in-flight magic", [&] { poke(at("in-flight"), 0, "x"); }, "not such a file"},
      {"in-flight slot", [&] { poke(at("in-flight"), 4096, std::string("\1\0\0\0\1\0\0\0", 8)); },
       "slot 0"},
      {"in-flight size", [&] { std::filesystem::resize_file(at("in-flight"), 9000); },
       "9000 bytes"},
      {"what is settled", [&] { poke(at("settled"), 9, "x"); }, "the mark is damaged"},
      {"a cursor", [&] { write_file(at("cursors/abc"), "x"); }, "not a number"},
      {"a checkpoint", [&] { poke(at("checkpoints/0000000000000001-0000000000000001"), 130, "x"); },
       "checkpoints/0000000000000001-0000000000000001"},
      {"a checkpoint of another epoch",
       [&] {
         std::filesystem::copy_file(at("checkpoints/0000000000000001-0000000000000001"),
                                    at("checkpoints/0000000000000001-0000000000000002"));
       },
       "its epochs are not those of its name"},
      {"a label", [&] { write_file(at("labels/1"), "x"); }, "the file holds none"},
      {"a cursor ahead", [&] { write_file(at("cursors/abc"), "9\n"); }, "not sealed yet"},
      {"the volume file", [&] { poke(at("volume"), 30, "x"); }, "volume"}};
  for (const Row& row : rows) {
    row.damage();
    EXPECT_EQ(on_journal("verify"), 5) << row.what << out_ << err_;
    EXPECT_TRUE(said(row.said)) << row.what << ": " << out_;
    EXPECT_TRUE(said("to do: ")) << row.what;
    std::filesystem::remove(at("checkpoints/0000000000000001-0000000000000002"));
    std::filesystem::copy(saved, volume_.path(),
                          std::filesystem::copy_options::recursive |
                              std::filesystem::copy_options::overwrite_existing);
    ASSERT_EQ(on_journal("verify"), 0) << row.what << out_;
  }
}

TEST_F(JournalCommands, VerifyHoldsTheManifestAgainstTheLog) {
  close();
  // Epoch 2 claims another number of records, with a checksum that is right.
  std::string bytes = read_whole_file(volume_.path() + "/epochs");
  bytes[64 + 32] = 9;
  const uint64_t sum = XXH3_64bits(bytes.data() + 64, 56);
  std::memcpy(bytes.data() + 64 + 56, &sum, sizeof sum);
  write_file(volume_.path() + "/epochs", bytes);
  EXPECT_EQ(on_journal("verify"), 5);
  EXPECT_TRUE(said("epoch 2 should hold 9 records, and holds 2")) << out_;
}

TEST_F(JournalCommands, VerifyLeavesAloneWhatAWriterIsAt) {
  ASSERT_TRUE(must(volume_.lock()));
  const Lsn hole = append(write_of(7));
  append(write_of(8));
  erase(hole);
  EXPECT_EQ(on_journal("verify"), 0) << out_;
  EXPECT_EQ(list(), 0) << err_;
}

TEST_F(JournalCommands, VerifyCallsTheHoleOfAKilledWriterANote) {
  const Lsn hole = append(write_of(7));
  append(write_of(8));
  erase(hole);
  kill();
  EXPECT_EQ(on_journal("verify"), 0) << out_;
  EXPECT_TRUE(said("note: ")) << out_;
  reopen();
  EXPECT_EQ(on_journal("verify"), 0) << out_;
}

}  // namespace
}  // namespace epochfs::testing
