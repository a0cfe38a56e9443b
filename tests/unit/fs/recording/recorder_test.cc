// Recorder: is a mutation in the journal, its pre-image in the log and its file in
// the layers, all in the right order, and is an epoch a cut of all that?
#include "fs/recording/recorder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "fs/recording/pins.h"
#include "journal/preimages/attributes.h"
#include "tests/support/expect.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;
using namespace std::chrono_literals;

class Recording : public JournalTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mkdir((dir_ / "backing").c_str(), 0755), 0);
    backing_ = must(open_directory(dir_ / "backing"));
    start();
  }
  void TearDown() override { stop(); }

  // What a mount does when it comes and goes.
  void start() {
    open();
    pins_ = must(Pins::create(volume_, backing_.get()));
    pins_->restore({}, {}, EpochId{value(journal_->open_epoch()) - 1});
    auto last = must(journal::read_last_epoch(volume_.dir()));
    recorder_ = std::make_unique<Recorder>(*journal_, barrier_, *pins_, backing_.get(), last);
    worker_ = *recorder_->add_worker();
  }
  void stop() {
    if (recorder_) recorder_->remove_worker(worker_);
    recorder_.reset();
    pins_.reset();
    journal_.reset();
  }

  // A file of the backing directory, as a mutation names it.
  Touched file(const std::string& name, ByteRange data = {}) {
    UniqueFd made(::openat(backing_.get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    struct statx a;
    Touched t;
    EXPECT_EQ(identify(backing_.get(), name.c_str(), a, t.handle), 0);
    t.id = file_id(a);
    t.data = data;
    return t;
  }
  journal::Record intent_of(const Touched& t) {
    journal::Record r = write_of(0, t.data.begin, t.data.end);
    r.file = t.id;
    r.handle = t.handle;
    return r;
  }
  void write(const std::string& name, uint64_t offset, const std::string& bytes) {
    const Touched touched[] = {file(name, {offset, offset + bytes.size()})};
    Recorder::Mutation m(*recorder_, worker_, intent_of(touched[0]), touched);
    UniqueFd fd(::openat(backing_.get(), name.c_str(), O_WRONLY));
    must(pwrite_full(fd.get(), bytes.data(), bytes.size(), offset, name));
    m.commit();
  }
  Result<journal::SealedEpoch> barrier(bool only_if_changed = false) {
    return recorder_->barrier(only_if_changed, 10s);
  }

  UniqueFd backing_;
  Barrier barrier_;
  std::unique_ptr<Pins> pins_;
  std::unique_ptr<Recorder> recorder_;
  Worker worker_;
};

TEST_F(Recording, WhatWasCommittedIsInTheJournal) {
  write("a", 10, "bytes");
  auto records = read();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].record.type, journal::RecordType::kWrite);
  EXPECT_EQ(records[0].record.range, (ByteRange{10, 15}));
  EXPECT_EQ(records[0].record.file, file("a").id);
}

TEST_F(Recording, WhatWasNotCommittedIsNot) {
  const Touched touched[] = {file("a", {0, 1})};
  { Recorder::Mutation m(*recorder_, worker_, intent_of(touched[0]), touched); }
  EXPECT_TRUE(read().empty());
}

TEST_F(Recording, TheRecordIsWhatItWasAmendedTo) {
  const Touched touched[] = {file("a", {0, 100})};
  {
    Recorder::Mutation m(*recorder_, worker_, intent_of(touched[0]), touched);
    m.record().range.end = 7;
    m.commit();
  }
  EXPECT_EQ(read().at(0).record.range, (ByteRange{0, 7}));
}

TEST_F(Recording, TheIntentOutlivesAKillInTheMiddle) {
  const Touched touched[] = {file("a", {0, 100})};
  {
    Recorder::Mutation m(*recorder_, worker_, intent_of(touched[0]), touched);
    journal::InFlight::Found found;
    must(journal::InFlight::open(storage_, volume_.dir(), found));
    ASSERT_EQ(found.intents.size(), 1u);
    EXPECT_EQ(found.intents[0].file, touched[0].id);
    m.commit();
  }
  journal::InFlight::Found found;
  must(journal::InFlight::open(storage_, volume_.dir(), found));
  EXPECT_TRUE(found.intents.empty());
}

TEST_F(Recording, ThePreImageIsPublishedBeforeTheIntentIsCarriedOut) {
  write("a", 0, "before");
  std::shared_ptr<Pins::Pin> pin;
  auto log = must(pins_->make_log());
  must(recorder_->barrier(false, 10s, [&](const journal::SealedEpoch& s) {
    pin = pins_->pin(EpochId{0}, s.epoch, std::move(log));
  }));
  auto reader = must(journal::PreImageReader::open(UniqueFd(::dup(pin->log_fd()))));
  const Touched touched[] = {file("a", {0, 3})};
  Recorder::Mutation m(*recorder_, worker_, intent_of(touched[0]), touched);
  must(reader->refresh());
  ASSERT_NE(reader->saved(touched[0].id), nullptr);
  char bytes[6] = {};
  must(reader->overlay(touched[0].id, 0, bytes, sizeof bytes));
  EXPECT_EQ(std::string(bytes, 3), "bef");
}

TEST_F(Recording, BarriersNumberEpochsWithoutGaps) {
  for (uint64_t e = 1; e <= 5; ++e) {
    write("a", 0, "x");
    journal::SealedEpoch sealed = must(barrier());
    EXPECT_EQ(sealed.epoch, EpochId{e});
    EXPECT_EQ(sealed.records, 1u);
    EXPECT_EQ(recorder_->last_sealed(), sealed);
  }
  auto manifest = must(journal::read_epochs(volume_.dir()));
  ASSERT_EQ(manifest.size(), 5u);
  EXPECT_EQ(manifest.back().epoch, EpochId{5});
}

TEST_F(Recording, OnlyIfChangedSealsWhatIsNew) {
  journal::SealedEpoch first = must(barrier(true));  // nothing was sealed yet
  EXPECT_EQ(first.epoch, EpochId{1});
  EXPECT_EQ(must(barrier(true)).epoch, EpochId{1});
  write("a", 0, "x");
  EXPECT_EQ(must(barrier(true)).epoch, EpochId{2});
  EXPECT_EQ(must(barrier(true)).epoch, EpochId{2});
  EXPECT_EQ(must(barrier(false)).epoch, EpochId{3});
  EXPECT_EQ(must(journal::read_epochs(volume_.dir())).size(), 3u);
}

TEST_F(Recording, OnlyIfChangedKnowsWhatWasSealedBefore) {
  write("a", 0, "x");
  must(barrier());
  stop();
  start();
  EXPECT_EQ(must(barrier(true)).epoch, EpochId{1});
}

TEST_F(Recording, AtSealRunsInsideTheBarrierAlsoWhenNothingIsNew) {
  must(barrier());
  int calls = 0;
  journal::SealedEpoch given;
  must(recorder_->barrier(true, 10s, [&](const journal::SealedEpoch& s) {
    ++calls;
    given = s;
  }));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(given.epoch, EpochId{1});
  EXPECT_EQ(barrier_.statistics().cuts, 2u);
}

// Dirty pages that a barrier waits for are written by workers as well.
TEST_F(Recording, WhoIsHeldMayPassForAWhile) {
  recorder_->hold(true);
  {
    const Recorder::LetPass pass(*recorder_);
    write("a", 0, "x");
  }
  recorder_->hold(false);
  EXPECT_EQ(must(barrier()).records, 1u);
}

TEST_F(Recording, ABarrierThatCannotDrainIsCalledOff) {
  const Touched touched[] = {file("a", {0, 1})};
  {
    Recorder::Mutation m(*recorder_, worker_, intent_of(touched[0]), touched);
    auto late = recorder_->barrier(false, 20ms);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().status, ExitStatus::kTimedOut);
    EXPECT_NE(
        late.error().message().find(fmt::format("write of inode {} by pid 0", touched[0].id.inode)),
        std::string::npos)
        << late.error().message();
    m.commit();
  }
  EXPECT_EQ(journal_->open_epoch(), EpochId{1});
  EXPECT_EQ(must(barrier()).records, 1u);
}

TEST_F(Recording, AnEpochThatCouldNotBePublishedIsPublishedFirst) {
  write("a", 0, "x");
  storage_.failing_label = "manifest-append";
  auto failed = barrier();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, EIO);
  EXPECT_FALSE(recorder_->last_sealed());
  EXPECT_FALSE(barrier(true));  // still
  EXPECT_EQ(journal_->open_epoch(), EpochId{2});
  write("a", 1, "y");

  storage_.failing_label.clear();
  EXPECT_EQ(must(barrier()).epoch, EpochId{2});
  auto manifest = must(journal::read_epochs(volume_.dir()));
  ASSERT_EQ(manifest.size(), 2u);
  EXPECT_EQ(manifest[0].records, 1u);
  EXPECT_EQ(manifest[1].records, 1u);
}

TEST_F(Recording, ALostRecordMakesEveryFileCountAsDirty) {
  must(barrier());
  pins_->cursors_are({EpochId{1}});
  storage_.full = true;
  write("lost", 0, "x");
  for (int i = 0; i < 2000; ++i) write("lost", 0, "x");  // segments of 64 KiB are soon full
  ASSERT_NE(journal_->statistics().lost, 0u);
  storage_.full = false;
  std::shared_ptr<Pins::Pin> pin;
  auto log = must(pins_->make_log());
  auto sealed = recorder_->barrier(false, 10s, [&](const journal::SealedEpoch& s) {
    pin = pins_->pin(EpochId{1}, s.epoch, std::move(log));
  });
  ASSERT_NE(pin, nullptr);
  auto reader = must(journal::PreImageReader::open(UniqueFd(::dup(pin->log_fd()))));
  const Touched other = file("never written", {0, 1});
  pins_->save(other);
  must(reader->refresh());
  EXPECT_NE(reader->attributes(other.id), nullptr);
}

TEST_F(Recording, ThereAreNoMoreWorkersThanSlots) {
  std::vector<Worker> workers;
  while (auto w = recorder_->add_worker()) workers.push_back(*w);
  EXPECT_EQ(workers.size(), journal::kInFlightSlots - 1);
  recorder_->remove_worker(workers.back());
  workers.pop_back();
  auto again = recorder_->add_worker();
  EXPECT_TRUE(again);
  workers.push_back(*again);
  for (Worker& w : workers) recorder_->remove_worker(w);
}

// Guarantee 3, seen at the journal: what a thread was told is done before the
// barrier began is in the epoch, what began after the barrier's end is not, and a
// mutation's file change and its record are in the same one.
TEST_F(Recording, AnEpochIsACut) {
  constexpr int kThreads = 3, kEpochs = 40;
  // Each thread counts in its own file; a mutation writes the count there.
  std::atomic<uint64_t> done[kThreads] = {};
  std::atomic<bool> stop{false};
  std::vector<Touched> files;
  for (int t = 0; t < kThreads; ++t) files.push_back(file("f" + std::to_string(t), {0, 8}));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Worker worker = *recorder_->add_worker();
      UniqueFd fd(::openat(backing_.get(), ("f" + std::to_string(t)).c_str(), O_RDWR));
      const Touched touched[] = {files[t]};
      for (uint64_t n = 1; !stop; ++n) {
        journal::Record intent = intent_of(touched[0]);
        intent.range = {n, n + 1};  // so that the journal tells which one it was
        {
          Recorder::Mutation m(*recorder_, worker, intent, touched);
          must(pwrite_full(fd.get(), &n, sizeof n, 0, "count"));
          m.commit();
        }
        done[t] = n;
      }
      recorder_->remove_worker(worker);
    });
  }
  struct Seen {
    uint64_t before[kThreads], at_seal[kThreads], after[kThreads];
  };
  std::vector<Seen> seen;
  for (int e = 0; e < kEpochs; ++e) {
    Seen s;
    for (int t = 0; t < kThreads; ++t) s.before[t] = done[t];
    must(recorder_->barrier(false, 60s, [&](const journal::SealedEpoch&) {
      for (int t = 0; t < kThreads; ++t) {
        UniqueFd fd(::openat(backing_.get(), ("f" + std::to_string(t)).c_str(), O_RDONLY));
        s.at_seal[t] = 0;
        must(pread_full(fd.get(), &s.at_seal[t], sizeof(uint64_t), 0, "count"));
      }
    }));
    for (int t = 0; t < kThreads; ++t) s.after[t] = done[t] + 1;
    seen.push_back(s);
  }
  stop = true;
  for (auto& t : threads) t.join();

  std::map<FileId, int> thread_of;
  for (int t = 0; t < kThreads; ++t) thread_of[files[t].id] = t;
  uint64_t recorded[kThreads] = {};
  size_t epoch = 0;
  for (const Kept& k : read()) {
    if (k.record.type == journal::RecordType::kSeal) {
      for (int t = 0; t < kThreads; ++t) {
        EXPECT_EQ(recorded[t], seen[epoch].at_seal[t]);
        EXPECT_GE(recorded[t], seen[epoch].before[t]);
        EXPECT_LE(recorded[t], seen[epoch].after[t]);
      }
      ++epoch;
    } else {
      int t = thread_of.at(k.record.file);
      EXPECT_EQ(k.record.range.begin, recorded[t] + 1);
      EXPECT_EQ(value(k.record.epoch), epoch + 1);
      recorded[t] = k.record.range.begin;
    }
  }
  EXPECT_EQ(epoch, size_t(kEpochs));
}

}  // namespace
}  // namespace epochfs::fs
