// Labels: is an epoch called what it was called, and nothing else?
#include "journal/volume/labels.h"

#include <algorithm>
#include <filesystem>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

SealedEpoch epoch(uint64_t n) { return {.epoch = EpochId{n}, .barrier_ns = 1000 + n}; }

class Labels : public ::testing::Test {
 protected:
  void write(uint64_t n, std::string_view text) {
    must(write_label(Storage::system(), volume_.dir(), epoch(n), text));
  }
  Result<std::optional<std::string>> read(uint64_t n) {
    return read_label(volume_.dir(), epoch(n));
  }
  std::vector<uint64_t> listed() {
    std::vector<uint64_t> out;
    for (EpochId e : must(list_labels(volume_.dir()))) out.push_back(value(e));
    return out;
  }
  std::string file(const std::string& name) const { return volume_.path() + "/labels/" + name; }

  TemporaryDirectory dir_;
  Volume volume_ = make_volume(dir_);
};

TEST_F(Labels, AVolumeWithoutTheFolderHasNone) {
  EXPECT_TRUE(listed().empty());
  EXPECT_EQ(must(read(1)), std::nullopt);
}

TEST_F(Labels, ComeBackAsTheyWere) {
  const std::string texts[] = {"x",        "before the upgrade",
                               " spaces ", "\\n, \"quoted\"",
                               "Größe 漢", std::string(kMaxLabelBytes, 'x')};
  uint64_t n = 0;
  for (const std::string& text : texts) {
    write(++n, text);
    EXPECT_EQ(must(read(n)), text);
  }
  EXPECT_EQ(listed().size(), n);
  EXPECT_EQ(must(read(n + 1)), std::nullopt);
}

TEST_F(Labels, WhatIsNoTextIsRefused) {
  const std::pair<std::string, const char*> refused[] = {{"", "empty"},
                                                         {std::string(256, 'x'), "256 bytes"},
                                                         {"a\nb", "control"},
                                                         {"a\tb", "control"},
                                                         {"\x1b[31m", "control"},
                                                         {"\x7f", "control"},
                                                         {"a\xc2\x85", "control"},
                                                         {std::string("a\0b", 3), "control"},
                                                         {"\xff", "UTF-8"}};
  for (const auto& [text, why] : refused) {
    auto checked = check_label(text);
    ASSERT_FALSE(checked) << why;
    EXPECT_EQ(checked.error().status, ExitStatus::kUsage);
    EXPECT_NE(checked.error().message().find(why), std::string::npos) << checked.error().message();
  }
}

TEST_F(Labels, OneOfAnotherEpochOfThisNumberIsNone) {
  write(3, "of before the journal was lost");
  SealedEpoch other = epoch(3);
  other.barrier_ns = 7;
  EXPECT_EQ(must(read_label(volume_.dir(), other)), std::nullopt);
}

TEST_F(Labels, ThoseOfEpochsThatNeverCameToBeGoWithTheNext) {
  write(8, "lost");
  write(9, "lost too");
  write(3, "now");
  EXPECT_EQ(listed(), (std::vector<uint64_t>{3}));
}

TEST_F(Labels, TheNewestAreKept) {
  write(1, "x");
  for (uint64_t n = 2; n <= kMaxLabels; ++n) write_file(file(std::to_string(n)), "1 x\n");
  EXPECT_EQ(listed().size(), kMaxLabels);
  write(kMaxLabels + 1, "one too many");
  write(kMaxLabels + 2, "and another");
  const auto kept = listed();
  ASSERT_EQ(kept.size(), kMaxLabels);
  EXPECT_EQ(kept.front(), 3u);
  EXPECT_EQ(kept.back(), kMaxLabels + 2);
}

TEST_F(Labels, OtherNamesAreIgnored) {
  write(1, "x");
  for (const char* name : {"2.new", "03", "+4", "x", "-1", "18446744073709551616"}) {
    write_file(file(name), "1 x\n");
  }
  EXPECT_EQ(listed(), (std::vector<uint64_t>{1}));
}

TEST_F(Labels, AFileCutAtEveryByteIsDamageAndNeverAnotherText) {
  write(1, "before the upgrade");
  const std::string whole = read_whole_file(file("1"));
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(file("1"), whole.substr(0, size));
    auto label = read(1);
    ASSERT_FALSE(label) << size;
    EXPECT_EQ(label.error().status, ExitStatus::kCorrupt);
  }
  write_file(file("1"), std::string(300, '1'));
  EXPECT_EQ(read(1).error().status, ExitStatus::kCorrupt);
}

TEST_F(Labels, AFailureIsTold) {
  write_file(volume_.path() + "/labels", "in the way");
  auto written = write_label(Storage::system(), volume_.dir(), epoch(1), "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ENOTDIR);
}

}  // namespace
}  // namespace epochfs::journal
