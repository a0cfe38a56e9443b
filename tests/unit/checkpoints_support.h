// CheckpointsTest: the fixture of a journal whose records go, and checkpoints stand in.
#pragma once

#include <fmt/format.h>

#include "journal/checkpoints.h"
#include "journal/fold_epochs.h"
#include "tests/unit/journal_support.h"

namespace epochfs::testing {

class CheckpointsTest : public JournalTest {
 protected:
  Checkpoints& checkpoints() {
    if (!checkpoints_) checkpoints_ = must(Checkpoints::open(storage_, volume_));
    return *checkpoints_;
  }
  void append(const Record& record) {
    Record r = record;
    ASSERT_NE(journal_->append(r), Lsn{0});
  }
  // All records of segments that lie wholly before the newest seal.
  void let_records_go() {
    auto last = must(read_last_epoch(volume_.dir()));
    for (const auto& [index, name] : must(list_segments(volume_.dir()))) {
      if ((index + 1) * kSegment <= value(last->seal)) {
        ASSERT_EQ(::unlink(segment_file(index).c_str()), 0);
      }
    }
  }
  // A segment's worth of records that mean nothing, so that the others can go.
  void fill_segment() {
    for (uint64_t n = 0; n < kSegment / 60; ++n) append(write_of(2));
  }
  std::vector<std::string> names_on_disk() {
    std::vector<std::string> out;
    for (const auto& c : must(read_checkpoints(volume_))) {
      out.push_back(fmt::format("{}-{}", value(c->info().first), value(c->info().last)));
    }
    return out;
  }
  ChangeSet fold(uint64_t since, uint64_t until, Fold::Cancel cancel = Fold::Cancel::kDrop) {
    return must(fold_epochs(volume_, EpochId{since}, EpochId{until}, cancel));
  }

  std::unique_ptr<Checkpoints> checkpoints_;
};

}  // namespace epochfs::testing
