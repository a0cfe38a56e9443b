// The numbers of FORMAT.md: are they those of journal/base/format.h, and are all of them there?
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <variant>

#include "journal/base/format.h"
#include "journal/log/record.h"

namespace epochfs::journal {
namespace {

using Value = std::variant<uint64_t, std::string>;

#define CONSTANT(name) \
  { #name, Value(name) }
#define MAGIC(name) \
  { #name, Value(std::string(name)) }

const std::map<std::string, Value> kConstants = {
    MAGIC(kVolumeMagic),
    MAGIC(kSegmentMagic),
    MAGIC(kInFlightMagic),
    MAGIC(kSettledMagic),
    MAGIC(kCheckpointMagic),
    MAGIC(kPreImageMagic),
    CONSTANT(kStateFormatVersion),
    CONSTANT(kInFlightFormatVersion),
    CONSTANT(kPreImageFormatVersion),
    CONSTANT(kMaxNameBytes),
    CONSTANT(kMaxHandleBytes),
    CONSTANT(kVolumeHeaderBytes),
    CONSTANT(kMaxBackingPathBytes),
    CONSTANT(kRecordAlignment),
    CONSTANT(kRecordHeaderBytes),
    CONSTANT(kMaxRecordBytes),
    CONSTANT(kSegmentHeaderBytes),
    CONSTANT(kSegmentGrainBytes),
    CONSTANT(kMinSegmentBytes),
    CONSTANT(kMaxSegmentBytes),
    CONSTANT(kDefaultSegmentBytes),
    CONSTANT(kMappedSegments),
    CONSTANT(kPositionLimit),
    CONSTANT(kMaxIntents),
    CONSTANT(kInFlightHeaderBytes),
    CONSTANT(kInFlightSlots),
    CONSTANT(kInFlightSlotBytes),
    CONSTANT(kMaxTornBytes),
    CONSTANT(kMaxHolesOfOneWriter),
    CONSTANT(kMaxLostSeals),
    CONSTANT(kSettledBytes),
    CONSTANT(kMaxCursorBytes),
    CONSTANT(kMaxRelationshipIdBytes),
    CONSTANT(kMaxLabelBytes),
    CONSTANT(kMaxLabelFileBytes),
    CONSTANT(kMaxLabels),
    CONSTANT(kEpochEntryBytes),
    CONSTANT(kMaxEpochEntries),
    CONSTANT(kEpochBlockBytes),
    CONSTANT(kKeptEpochs),
    CONSTANT(kCheckpointHeaderBytes),
    CONSTANT(kCheckpointFileEntryBytes),
    CONSTANT(kCheckpointNameEntryBytes),
    CONSTANT(kFilesPerIndexEntry),
    CONSTANT(kMaxRangesOfFile),
    CONSTANT(kPreImageHeaderBytes),
    CONSTANT(kPreImageEntryHeaderBytes),
    CONSTANT(kMaxAttributesBytes),
    CONSTANT(kMaxPreImageBytes),
    CONSTANT(kCloneAlignment),
};

std::string read_source(const std::string& path) {
  const char* source = std::getenv("EPOCHFS_SOURCE");
  EXPECT_TRUE(source) << "EPOCHFS_SOURCE does not name the source tree";
  std::ifstream in(std::string(source ? source : ".") + "/" + path);
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

// "64 KiB", "10,000", "2^57 − 1", or a magic between backticks.
Value read_value(std::string text) {
  if (text.front() == '`') return text.substr(1, text.size() - 2);
  std::erase(text, ',');
  std::smatch match;
  EXPECT_TRUE(std::regex_match(text, match,
                               std::regex("(?:(2\\^))?([0-9]+)(?: ([KMG])iB)?(?: − ([0-9]+))?")))
      << text;
  uint64_t value = std::stoull(match[2]);
  if (match[1].matched) value = uint64_t{1} << value;
  if (match[3].matched) value <<= match[3] == "K" ? 10 : match[3] == "M" ? 20 : 30;
  if (match[4].matched) value -= std::stoull(match[4]);
  return value;
}

// Rows "| `kName` | value | ..." of the page.
std::map<std::string, Value> page_table() {
  std::map<std::string, Value> out;
  std::istringstream page(read_source("journal/FORMAT.md"));
  const std::regex row("\\| `(k[A-Z]\\w*)` \\| ([^|]*) \\|.*");
  std::smatch match;
  for (std::string line; std::getline(page, line);) {
    if (std::regex_match(line, match, row)) out[match[1]] = read_value(match[2]);
  }
  return out;
}

// Names that the text mentions, as `pattern` finds them.
std::set<std::string> names_in(const std::string& text, const char* pattern) {
  std::set<std::string> out;
  const std::regex wanted(pattern);
  for (std::sregex_iterator at(text.begin(), text.end(), wanted), end; at != end; ++at) {
    out.insert((*at)[1]);
  }
  return out;
}

std::set<std::string> names_of(const std::map<std::string, Value>& table) {
  std::set<std::string> out;
  for (const auto& [name, value] : table) out.insert(name);
  return out;
}

TEST(FormatPage, NumbersAreThoseOfTheCode) { EXPECT_EQ(page_table(), kConstants); }

TEST(FormatPage, EveryConstantOfTheCodeIsOnThePage) {
  EXPECT_EQ(names_in(read_source("journal/base/format.h"), "constexpr [^(;=]*\\b(k[A-Z]\\w*) ="),
            names_of(kConstants));
}

TEST(FormatPage, EveryConstantThatThePageMentionsExists) {
  const auto known = names_of(kConstants);
  for (const auto& name : names_in(read_source("journal/FORMAT.md"), "`(k[A-Z]\\w*)`")) {
    EXPECT_TRUE(known.count(name)) << name;
  }
}

// A number in the prose of the table.
TEST(FormatPage, LargestRecordIsAsLargeAsThePageSays) {
  const std::string name(kMaxNameBytes, 'n');
  FileHandle handle;
  handle.size = kMaxHandleBytes;
  Record r;
  r.type = RecordType::kRename;
  r.handle = r.parent_handle = r.parent2_handle = handle;
  r.name = r.name2 = name;
  EXPECT_EQ(names_in(read_source("journal/FORMAT.md"), "version 1 can make has ([0-9]+)"),
            std::set{std::to_string(encoded_size(r))});
}

}  // namespace
}  // namespace epochfs::journal
