// CheckpointsTest: the fixture of a journal whose records go, and whose checkpoints take their
// place.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>

#include "journal/changes/checkpoints.h"
#include "journal/changes/fold_epochs.h"
#include "tests/support/expect.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"
#include "tests/unit/journal/changes/recorded_tree.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::testing {

class CheckpointsTest : public JournalTest {
 protected:
  journal::Checkpoints& checkpoints() {
    if (!checkpoints_) checkpoints_ = must(journal::Checkpoints::open(storage_, volume_));
    return *checkpoints_;
  }
  void append(const journal::Record& record) {
    journal::Record r = record;
    ASSERT_NE(journal_->append(r), Lsn{0});
  }
  // All records of segments that lie wholly before the newest seal.
  void let_records_go() {
    auto last = must(journal::read_last_epoch(volume_.dir()));
    for (const auto& [index, name] : must(journal::list_segments(volume_.dir()))) {
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
    for (const auto& c : must(journal::read_checkpoints(volume_))) {
      out.push_back(fmt::format("{}-{}", value(c->info().first), value(c->info().last)));
    }
    return out;
  }
  // What a random life does besides: all may be left out but `check`.
  struct Life {
    std::function<void(const journal::Record&)> append;
    std::function<void(const RecordedTree::Snapshot& now, const std::vector<EpochId>& cursors)>
        before_a_seal;
    std::function<void()> after_checkpoints;
    // Two states, and the epochs that they are of.
    std::function<void(const RecordedTree::Snapshot& before, const RecordedTree::Snapshot& after,
                       uint64_t since, uint64_t until)>
        check;
  };
  // A random life of a tree, in which cursors move, and checkpoints are made and merged at
  // random.
  void live(Random& random, const Life& life) {
    TemporaryDirectory dir;
    volume_ = make_volume(dir, kSegment);
    checkpoints_.reset();
    open();
    RecordedTree model;
    std::map<uint64_t, RecordedTree::Snapshot> at_epoch{{0, model.snapshot()}};
    std::vector<EpochId> cursors{EpochId{0}};
    for (int range = 0; range < 25; ++range) {
      std::deque<journal::Record> records;
      for (uint64_t i = random.below(40); i > 0; --i) model.step(random, records);
      for (const journal::Record& r : records) life.append ? life.append(r) : append(r);
      if (life.before_a_seal) life.before_a_seal(model.snapshot(), cursors);
      const uint64_t epoch = value(seal_and_publish().epoch);
      at_epoch[epoch] = model.snapshot();
      if (random.one_in(4)) cursors.push_back(EpochId{epoch});
      if (random.one_in(6) && cursors.size() > 1) cursors.erase(cursors.begin());
      if (random.one_in(3)) {
        const journal::CheckpointPolicy policy{.boundaries = cursors};
        must(checkpoints().extend(cursors.front(), EpochId{epoch}, policy));
        must(checkpoints().compact(policy));
        must(checkpoints().drop_up_to(cursors.front()));
        if (life.after_checkpoints) life.after_checkpoints();
      }
      for (EpochId since : cursors) {
        life.check(at_epoch.at(value(since)), at_epoch.at(epoch), value(since), epoch);
        if (::testing::Test::HasFatalFailure())
          FAIL() << "epochs " << value(since) << " to " << epoch;
      }
    }
    kill();
  }
  journal::ChangeSet fold(uint64_t since, uint64_t until,
                          journal::Fold::Cancel cancel = journal::Fold::Cancel::kDrop) {
    return must(journal::fold_epochs(volume_, EpochId{since}, EpochId{until}, cancel));
  }

  std::unique_ptr<journal::Checkpoints> checkpoints_;
};

}  // namespace epochfs::testing
