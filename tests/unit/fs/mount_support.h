// MountedJournalTest: what a mount's process wires around a journal, except FUSE: pins,
// recorder, checkpoints, settler, housekeeper, and one worker. The backing directory is an
// empty folder.
#pragma once

#include <sys/stat.h>

#include "fs/housekeeping/housekeeper.h"
#include "tests/support/expect.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::testing {

class MountedJournalTest : public JournalTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mkdir((dir_ / "backing").c_str(), 0755), 0);
    backing_ = must(open_directory(dir_ / "backing"));
    open();
    pins_ = must(fs::Pins::create(volume_, backing_.get()));
    pins_->restore({}, {}, EpochId{0});
    recorder_ = std::make_unique<fs::Recorder>(*journal_, barrier_, *pins_, backing_.get());
    checkpoints_ = must(journal::Checkpoints::open(storage_, volume_));
    settler_ = std::make_unique<fs::Settler>(storage_, *journal_, backing_.get());
    worker_ = *recorder_->add_worker();
    keep({.keep = {.bytes = 0}});
  }
  void TearDown() override {
    recorder_->remove_worker(worker_);
    housekeeper_.reset();
    recorder_.reset();
    pins_.reset();
  }
  // From now on house is kept like this; by hand, unless it is started.
  void keep(const fs::HousekeepingOptions& options) {
    housekeeper_.reset();
    housekeeper_ = std::make_unique<fs::Housekeeper>(volume_, backing_.get(), *journal_, *recorder_,
                                                     *pins_, *checkpoints_, *settler_, options);
  }

  UniqueFd backing_;
  fs::Barrier barrier_;
  std::unique_ptr<fs::Pins> pins_;
  std::unique_ptr<fs::Recorder> recorder_;
  std::unique_ptr<journal::Checkpoints> checkpoints_;
  std::unique_ptr<fs::Settler> settler_;
  std::unique_ptr<fs::Housekeeper> housekeeper_;
  fs::Worker worker_;
};

}  // namespace epochfs::testing
