// Journal, the writing side: is everything that was appended there, in order, and
// is it said when something is not?
#include "journal/log/journal.h"

#include <atomic>
#include <latch>
#include <map>
#include <semaphore>
#include <shared_mutex>
#include <thread>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/records.h"
#include "tests/support/waiting.h"
#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

using Appending = JournalTest;

TEST_F(Appending, FreshJournalIsCleanAndEmpty) {
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_FALSE(report_.machine_stopped);
  EXPECT_FALSE(report_.damaged);
  EXPECT_EQ(journal_->open_epoch(), EpochId{1});
  EXPECT_EQ(journal_->records_in_open_epoch(), 0u);
  EXPECT_TRUE(read().empty());
}

TEST_F(Appending, RecordsAreReadAsTheyWereAppended) {
  open();
  Random random;
  std::deque<OwnedRecord> appended;
  for (uint16_t type = 1; type <= kLastRecordType; ++type) {
    fill_random(static_cast<RecordType>(type), random, appended.emplace_back());
    ASSERT_NE(journal_->append(appended.back().record), Lsn{0});
  }
  auto records = read();
  ASSERT_EQ(records.size(), appended.size());
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_TRUE(records[i].record == appended[i].record);
    EXPECT_EQ(records[i].record.epoch, EpochId{1});
    EXPECT_NE(records[i].record.time_ns, 0u);
  }
}

TEST_F(Appending, LsnIsThePositionInBytes) {
  open();
  Record first = write_of(1), second = write_of(2);
  EXPECT_EQ(journal_->append(first), Lsn{kSegmentHeaderBytes});
  EXPECT_EQ(value(journal_->append(second)), kSegmentHeaderBytes + encoded_size(first));
}

TEST_F(Appending, StatisticsCount) {
  open();
  Record r = write_of(1);
  for (int i = 0; i < 3; ++i) journal_->append(r);
  const JournalStatistics s = journal_->statistics();
  EXPECT_EQ(s.records, 3u);
  EXPECT_EQ(s.bytes, 3 * encoded_size(r));
  EXPECT_EQ(s.lost, 0u);
  EXPECT_GE(s.segments, 1u);
}

TEST_F(Appending, RecordNeverSpansTwoSegments) {
  open();
  // Sizes that leave every possible remainder at the end of a segment.
  Random random;
  uint64_t inode = 0;
  while (value(journal_->statistics().tail) < 12 * kSegment) {
    const std::string name = random.name(1 + random.below(kMaxNameBytes));
    Record r = create_of(++inode, name);
    const Lsn lsn = journal_->append(r);
    ASSERT_NE(lsn, Lsn{0});
    EXPECT_GE(value(lsn) % kSegment, kSegmentHeaderBytes);
    EXPECT_LE(value(lsn) % kSegment + encoded_size(r), kSegment);
  }
  auto records = read();
  EXPECT_TRUE(damage_.empty());
  ASSERT_EQ(records.size(), inode);
  for (uint64_t i = 0; i < inode; ++i) EXPECT_EQ(records[i].record.file.inode, i + 1);
}

TEST_F(Appending, ThreadsAcrossManySegmentsLoseNothing) {
  constexpr uint64_t kThreads = 8, kEach = 4000;
  open();
  std::vector<std::vector<Lsn>> lsns(kThreads);
  std::latch start(kThreads);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::string name;
      start.arrive_and_wait();
      for (uint64_t i = 0; i < kEach; ++i) {
        name.assign(1 + random() % kMaxNameBytes, static_cast<char>('a' + t));
        Record r = i % 3 ? write_of(t << 32 | i, i, i + 1) : create_of(t << 32 | i, name);
        lsns[t].push_back(journal_->append(r));
      }
    });
  }
  for (auto& t : threads) t.join();

  auto records = read();
  EXPECT_TRUE(damage_.empty());
  ASSERT_EQ(records.size(), kThreads * kEach);
  EXPECT_EQ(journal_->statistics().records, kThreads * kEach);
  std::vector<uint64_t> next(kThreads);
  for (const Kept& k : records) {
    const uint64_t t = k.record.file.inode >> 32, i = k.record.file.inode & UINT32_MAX;
    ASSERT_LT(t, kThreads);
    ASSERT_EQ(i, next[t]++) << "a thread's own records keep their order";
    ASSERT_EQ(k.record.lsn, lsns[t][i]);
    if (i % 3 == 0) {
      ASSERT_EQ(k.name.find_first_not_of(static_cast<char>('a' + t)), std::string::npos);
    }
  }
  EXPECT_GT(segments(), 20u);
}

// A barrier as the mount has it: appends on the shared side, seals on the other;
// what a seal needs besides goes on meanwhile.
TEST_F(Appending, SealsAmongThreadsCutCleanly) {
  constexpr uint64_t kThreads = 4, kEpochs = 40, kRecordsAhead = 4000;
  open();
  std::shared_mutex barrier;
  std::atomic<bool> closing{false};  // shared locks alone would starve the seal
  std::atomic<uint64_t> appended{0}, allowed{kRecordsAhead}, lost{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; !done; ++i) {
        while (!done && (closing || appended >= allowed)) std::this_thread::yield();
        std::shared_lock inside(barrier);
        Record r = write_of(t << 32 | i);
        if (journal_->append(r) == Lsn{0}) ++lost;
        ++appended;
      }
    });
  }
  std::thread syncer([&] {
    while (!done) EXPECT_OK(journal_->sync());
  });
  std::vector<SealedEpoch> sealed;
  for (uint64_t e = 0; e < kEpochs; ++e) {
    const uint64_t wanted = appended + kRecordsAhead / 4;
    allowed = wanted + kRecordsAhead;
    while (appended < wanted) std::this_thread::yield();
    closing = true;
    {
      std::unique_lock outside(barrier);
      sealed.push_back(journal_->seal());
    }
    closing = false;
    EXPECT_OK(journal_->publish(sealed.back()));
    EXPECT_OK(journal_->note_settled(journal_->tail()));
    if (e >= 3) EXPECT_OK(journal_->release_up_to(sealed[e - 3].epoch, kKeepFour));
  }
  done = true;
  for (auto& t : threads) t.join();
  syncer.join();
  EXPECT_EQ(lost, 0u);

  EXPECT_EQ(must(read_epochs(volume_.dir())), sealed);
  std::map<EpochId, uint64_t> found;
  EpochId newest{};
  for (const Kept& k : read(sealed[kEpochs - 3].seal)) {
    EXPECT_GE(k.record.epoch, newest) << "no record of an epoch behind its seal";
    newest = k.record.epoch;
    if (k.record.type != RecordType::kSeal) ++found[k.record.epoch];
  }
  EXPECT_TRUE(damage_.empty());
  for (uint64_t e = kEpochs - 2; e < kEpochs; ++e) {
    EXPECT_EQ(found[sealed[e].epoch], sealed[e].records);
  }
}

TEST_F(Appending, EpochGoesOnWithTheNextNumberAfterASeal) {
  open();
  Record r = write_of(1);
  journal_->append(r);
  EXPECT_EQ(journal_->records_in_open_epoch(), 1u);
  const SealedEpoch first = seal_and_publish();
  EXPECT_EQ(first.epoch, EpochId{1});
  EXPECT_EQ(first.begin, Lsn{kSegmentHeaderBytes});
  EXPECT_EQ(first.records, 1u);
  EXPECT_EQ(journal_->open_epoch(), EpochId{2});
  EXPECT_EQ(journal_->records_in_open_epoch(), 0u);
  journal_->append(r);
  EXPECT_EQ(r.epoch, EpochId{2});
  const SealedEpoch second = seal_and_publish();
  EXPECT_EQ(second.begin, first.seal);
  auto records = read();
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[1].record.type, RecordType::kSeal);
  EXPECT_EQ(records[1].record.lsn, first.seal);
  EXPECT_EQ(records[1].record.time_ns, first.barrier_ns);
}

TEST_F(Appending, PublishedEpochsAreThereAfterReopening) {
  open();
  std::vector<SealedEpoch> sealed;
  for (uint64_t e = 1; e <= 5; ++e) {
    for (uint64_t i = 0; i < 700; ++i) {
      Record r = write_of(e * 1000 + i);
      journal_->append(r);
    }
    sealed.push_back(seal_and_publish());
  }
  Record r = write_of(9);
  journal_->append(r);
  close();
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_EQ(must(read_epochs(volume_.dir())), sealed);
  EXPECT_EQ(journal_->open_epoch(), EpochId{6});
  EXPECT_EQ(journal_->records_in_open_epoch(), 1u);
  EXPECT_EQ(journal_->seal().records, 1u);
}

// ---- durability ----

// Holds back every sync of a segment until it is let go.
class GatedStorage : public Storage {
 public:
  Result<void> sync_data(const char* label, int fd, std::string_view what) override {
    if (std::string_view(label) == "segment-sync") {
      ++syncs;
      entered.release();
      gate.acquire();
    }
    return Storage::sync_data(label, fd, what);
  }
  std::atomic<int> syncs{0};
  std::counting_semaphore<> entered{0}, gate{0};
};

TEST_F(Appending, SyncThatBeganBeforeAnAppendDoesNotCoverIt) {
  GatedStorage storage;
  storage.gate.release();  // that of open()
  auto journal = must(Journal::open(storage, volume_, lookup_, report_));
  storage.entered.acquire();
  storage.syncs = 0;
  Record r = write_of(1);
  journal->append(r);
  std::thread first([&] { EXPECT_OK(journal->sync()); });
  storage.entered.acquire();  // it is inside its fdatasync now
  journal->append(r);
  std::thread second([&] { EXPECT_OK(journal->sync()); });
  storage.gate.release(2);
  first.join();
  second.join();
  EXPECT_EQ(storage.syncs, 2);
}

// Notes which segments have been synced.
class NotingStorage : public Storage {
 public:
  Result<void> sync_data(const char* label, int fd, std::string_view what) override {
    std::lock_guard lock(mutex);
    synced.emplace_back(std::string(label) + " " + std::string(what));
    return Storage::sync_data(label, fd, what);
  }
  bool has(const std::string& entry) {
    std::lock_guard lock(mutex);
    return std::find(synced.begin(), synced.end(), entry) != synced.end();
  }
  std::mutex mutex;
  std::vector<std::string> synced;
};

TEST_F(Appending, SyncCoversEverySegmentSinceTheLastSeal) {
  NotingStorage storage;
  auto journal = must(Journal::open(storage, volume_, lookup_, report_));
  Record r = write_of(1);
  while (value(journal->append(r)) < 3 * kSegment) {
  }
  storage.synced.clear();
  ASSERT_OK(journal->sync());
  for (uint64_t i = 0; i <= 3; ++i) EXPECT_TRUE(storage.has("segment-sync " + segment_name(i)));
}

TEST_F(Appending, ManifestComesAfterTheRecords) {
  NotingStorage storage;
  auto journal = must(Journal::open(storage, volume_, lookup_, report_));
  Record r = write_of(1);
  journal->append(r);
  storage.synced.clear();
  ASSERT_OK(journal->publish(journal->seal()));
  ASSERT_EQ(storage.synced.size(), 2u);
  EXPECT_EQ(storage.synced[0], "segment-sync " + segment_name(0));
  EXPECT_EQ(storage.synced[1], "manifest-append epoch manifest");
}

TEST_F(Appending, FailedSyncIsAnErrorAndIsTriedAgain) {
  open();
  Record r = write_of(1);
  journal_->append(r);
  storage_.failing_label = "segment-sync";
  EXPECT_FALSE(journal_->sync());
  EXPECT_FALSE(journal_->sync());
  storage_.failing_label.clear();
  EXPECT_OK(journal_->sync());
}

TEST_F(Appending, FailedPublicationIsRepeated) {
  open();
  Record r = write_of(1);
  for (const char* label : {"segment-sync", "manifest-append"}) {
    journal_->append(r);
    const SealedEpoch sealed = journal_->seal();
    storage_.failing_label = label;
    EXPECT_FALSE(journal_->publish(sealed));
    storage_.failing_label.clear();
    EXPECT_OK(journal_->publish(sealed));
  }
  EXPECT_EQ(must(read_epochs(volume_.dir())).size(), 2u);
}

// ---- retention ----

TEST_F(Appending, ReleasedSegmentsGoAndNeededOnesStay) {
  open();
  std::vector<SealedEpoch> sealed;
  Record r = write_of(1);
  for (int e = 0; e < 6; ++e) {
    const uint64_t until = value(journal_->statistics().tail) + 3 * kSegment;
    while (value(journal_->append(r)) < until) {
    }
    sealed.push_back(seal_and_publish());
  }
  must(journal_->note_settled(journal_->tail()));
  ASSERT_OK(journal_->release_up_to(sealed[3].epoch, kKeepFour));
  const Lsn oldest = must(JournalReader(volume_).oldest());
  EXPECT_GT(value(oldest), 4 * kSegment);
  EXPECT_LT(oldest, sealed[3].seal);
  read(sealed[3].seal);
  EXPECT_TRUE(damage_.empty());
  // And again, and for an epoch of which nothing is known.
  EXPECT_OK(journal_->release_up_to(sealed[3].epoch, kKeepFour));
  EXPECT_OK(journal_->release_up_to(EpochId{0}, kKeepFour));
  EXPECT_EQ(must(JournalReader(volume_).oldest()), oldest);
  close();
  open();
  EXPECT_TRUE(report_.clean);
  EXPECT_FALSE(report_.damaged);
  EXPECT_EQ(journal_->open_epoch(), EpochId{7});
}

TEST_F(Appending, WhatIsNotSettledIsNotReleased) {
  open();
  const size_t whole = 8;
  Record r = write_of(1);
  Lsn third{};
  while (value(journal_->append(r)) < whole * kSegment) {
    if (value(r.lsn) < 3 * kSegment) third = r.lsn;
  }
  const SealedEpoch sealed = seal_and_publish();
  EXPECT_FALSE(must(journal_->release_up_to(sealed.epoch, {.bytes = 0})));
  EXPECT_EQ(must(list_segments(volume_.dir())).begin()->first, 0u);
  must(journal_->note_settled(third));
  EXPECT_FALSE(must(journal_->release_up_to(sealed.epoch, {.bytes = 0})));
  EXPECT_EQ(must(list_segments(volume_.dir())).begin()->first, 2u) << "its record is behind it";
  EXPECT_FALSE(must(journal_->release_up_to(sealed.epoch, {.bytes = 0}))) << "no matter how often";
  must(journal_->note_settled(journal_->tail()));
  EXPECT_TRUE(must(journal_->release_up_to(sealed.epoch, {.bytes = 0})));
  EXPECT_EQ(must(list_segments(volume_.dir())).begin()->first, whole);
  EXPECT_TRUE(must(journal_->release_up_to(sealed.epoch, {.bytes = 0})))
      << "nobody waits for a mark";
}

TEST_F(Appending, NothingIsReleasedBeforeAnythingIsSealed) {
  open();
  Record r = write_of(1);
  while (value(journal_->append(r)) < 8 * kSegment) {
  }
  const size_t before = segments();
  EXPECT_OK(journal_->release_up_to(EpochId{1}, kKeepFour));
  EXPECT_EQ(segments(), before);
}

// ---- no room ----

class NoRoom : public JournalTest {
 protected:
  // Appends until there is no room. Returns how many were recorded.
  uint64_t fill() {
    storage_.full = true;
    uint64_t n = 0;
    Record r = write_of(1);
    while (journal_->append(r) != Lsn{0}) ++n;
    return n;
  }
  // Room is looked for once a second.
  Lsn append_as_soon_as_possible(Record r) {
    Lsn lsn{};
    while ((lsn = journal_->append(r)) == Lsn{0}) std::this_thread::yield();
    return lsn;
  }
};

TEST_F(NoRoom, LostRecordIsMarkedAndAGapFollowsWhenRoomReturns) {
  open();
  const uint64_t recorded = fill();
  EXPECT_EQ(journal_->statistics().lost, 1u);
  EXPECT_TRUE(journal_->in_flight().records_lost());
  EXPECT_EQ(count(read(), RecordType::kWrite), recorded);
  storage_.full = false;
  append_as_soon_as_possible(write_of(77));
  EXPECT_EQ(journal_->statistics().lost, 0u);
  EXPECT_FALSE(journal_->in_flight().records_lost());
  auto records = read();
  ASSERT_EQ(records.size(), recorded + 2);
  EXPECT_EQ(gaps(records), std::vector{GapReason::kJournalFull});
  EXPECT_EQ(records[recorded].record.type, RecordType::kGap);
  EXPECT_EQ(records.back().record.file.inode, 77u);
  EXPECT_TRUE(damage_.empty());
}

TEST_F(NoRoom, LossCountsAsAChangeOfTheOpenEpoch) {
  open();
  fill();
  const uint64_t before = journal_->records_in_open_epoch();
  Record r = write_of(1);
  ASSERT_EQ(journal_->append(r), Lsn{0});
  EXPECT_GT(journal_->records_in_open_epoch(), before);
}

TEST_F(NoRoom, MarkOutlivesAKill) {
  open();
  const uint64_t recorded = fill();
  kill();
  storage_.full = false;
  open();
  EXPECT_FALSE(report_.clean);
  EXPECT_FALSE(report_.machine_stopped);
  EXPECT_FALSE(journal_->in_flight().records_lost());
  auto records = read();
  ASSERT_EQ(records.size(), recorded + 1);
  EXPECT_EQ(gaps(records), std::vector{GapReason::kJournalFull});
}

TEST_F(NoRoom, MarkOutlivesAMountThatHasNoRoomForTheGapEither) {
  open();
  storage_.full = true;
  Record gap, seal, write = write_of(1);
  gap.type = RecordType::kGap;
  seal.type = RecordType::kSeal;
  // Leaves 72 bytes: the segment is opened again, and a gap takes 80.
  ASSERT_NE(journal_->append(write), Lsn{0});
  while (value(journal_->statistics().tail) + encoded_size(seal) < kSegment) {
    ASSERT_NE(journal_->append(seal), Lsn{0});
  }
  ASSERT_EQ(kSegment - value(journal_->statistics().tail), 72u);
  ASSERT_EQ(journal_->append(gap), Lsn{0});
  kill();

  struct OneSegment : Storage {
    Result<void> allocate(const char* label, int fd, uint64_t size,
                          std::string_view what) override {
      if (std::string_view(label) == "segment" && ++segments > 1) return fail("full", ENOSPC);
      return Storage::allocate(label, fd, size, what);
    }
    std::atomic<int> segments{0};
  } storage;
  {
    auto journal = must(Journal::open(storage, volume_, lookup_, report_));
    EXPECT_EQ(journal->statistics().lost, 1u) << "the gap itself";
    EXPECT_TRUE(journal->in_flight().records_lost());
  }
  EXPECT_TRUE(gaps(read()).empty());
  storage_.full = false;
  open();
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kJournalFull});
  EXPECT_FALSE(journal_->in_flight().records_lost());
}

TEST_F(NoRoom, CleanStopWithoutRoomIsNotClean) {
  open();
  fill();
  ASSERT_OK(journal_->close());
  kill();
  storage_.full = false;
  open();
  EXPECT_FALSE(report_.clean);
  EXPECT_EQ(gaps(read()), std::vector{GapReason::kJournalFull});
}

TEST_F(NoRoom, GapStandsInTheEpochThatLacksTheRecords) {
  open();
  const std::string name(kMaxNameBytes, 'n');
  Record r = write_of(1), large = create_of(2, name);
  storage_.full = true;
  while (value(journal_->statistics().tail) + encoded_size(large) <= kSegment) {
    journal_->append(r);
  }
  // No room for the long record, but for the gap and the seal.
  ASSERT_EQ(journal_->append(large), Lsn{0});
  const SealedEpoch sealed = seal_and_publish();
  auto records = read();
  ASSERT_GE(records.size(), 2u);
  const Record& gap = records[records.size() - 2].record;
  EXPECT_EQ(gap.type, RecordType::kGap);
  EXPECT_EQ(gap.epoch, EpochId{1});
  EXPECT_EQ(records.back().record.lsn, sealed.seal);
  EXPECT_FALSE(journal_->in_flight().records_lost());
}

// What the barrier's caller must never take for an exact epoch.
TEST_F(NoRoom, EpochThatLacksRecordsIsNotPublishedBeforeTheGap) {
  open();
  fill();
  Record tiny;
  tiny.type = RecordType::kSeal;
  while (journal_->append(tiny) != Lsn{0}) {  // not even room for a seal
  }
  const SealedEpoch sealed = journal_->seal();
  EXPECT_EQ(journal_->open_epoch(), EpochId{2});
  for (int i = 0; i < 3; ++i) {
    auto published = journal_->publish(sealed);
    ASSERT_FALSE(published);
    EXPECT_EQ(published.error().code, ENOSPC);
  }
  EXPECT_TRUE(must(read_epochs(volume_.dir())).empty());
  storage_.full = false;
  while (!journal_->publish(sealed)) std::this_thread::yield();
  EXPECT_EQ(must(read_epochs(volume_.dir())), std::vector{sealed});
  auto records = read();
  EXPECT_EQ(gaps(records), std::vector{GapReason::kJournalFull});
  EXPECT_EQ(records.back().record.epoch, EpochId{2}) << "every later epoch has the gap";
  EXPECT_GT(journal_->records_in_open_epoch(), 0u) << "so there is something to seal";
  EXPECT_EQ(seal_and_publish().epoch, EpochId{2});
}

TEST_F(NoRoom, KillBeforeTheGapLeavesItDue) {
  open();
  fill();
  Record tiny;
  tiny.type = RecordType::kSeal;
  while (journal_->append(tiny) != Lsn{0}) {
  }
  EXPECT_FALSE(journal_->publish(journal_->seal()));
  kill();
  storage_.full = false;
  open();
  auto records = read();
  EXPECT_EQ(gaps(records), std::vector{GapReason::kJournalFull});
}

TEST_F(NoRoom, OpeningWithoutRoomNamesTheRemedy) {
  storage_.full = true;
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOSPC);
  EXPECT_NE(result.error().message().find("--journal"), std::string::npos);
  storage_.full = false;
  EXPECT_OK(try_open());
}

TEST_F(NoRoom, FailedAttemptLeavesNoRemnant) {
  open();
  fill();
  const size_t before = segments();
  Record r = write_of(1);
  journal_->append(r);
  // The thread that prepares ahead may be in the middle of an attempt of its own.
  eventually("no remnant is left", [&] { return segments() == before; });
}

TEST_F(NoRoom, LossesOfManyThreadsAreAllFollowedByAGap) {
  open();
  std::atomic<bool> done{false};
  std::atomic<uint64_t> lost{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (!done) {
        Record r = write_of(1);
        if (journal_->append(r) == Lsn{0}) ++lost;
      }
    });
  }
  for (int round = 0; round < 2; ++round) {
    storage_.full = true;
    const uint64_t before = lost;
    while (lost == before) std::this_thread::yield();
    storage_.full = false;
    const uint64_t records = journal_->statistics().records;
    while (journal_->statistics().records < records + 100) std::this_thread::yield();
  }
  // Until there is no room for good: a segment may have been under way already.
  storage_.full = true;
  for (uint64_t seen = UINT64_MAX; seen != journal_->statistics().records;) {
    seen = journal_->statistics().records;
    const uint64_t before = lost;
    const int refused = storage_.refused;
    while (storage_.refused == refused || lost == before) std::this_thread::yield();
  }
  done = true;
  for (auto& t : threads) t.join();
  EXPECT_TRUE(journal_->in_flight().records_lost()) << "the last losses are marked";
  kill();
  storage_.full = false;
  open();
  auto records = read();
  EXPECT_GE(gaps(records).size(), 3u);
  EXPECT_EQ(records.back().record.type, RecordType::kGap);
}

// More segments in one epoch than can be mapped at a time: losses, and a way out.
TEST_F(NoRoom, EpochLargerThanTheRingOfSegmentsLosesAndRecovers) {
  struct Fast : Storage {
    Result<void> sync_directory(const char*, int, std::string_view) override { return {}; }
    Result<void> sync_data(const char*, int, std::string_view) override { return {}; }
    Result<void> allocate(const char* label, int fd, uint64_t size,
                          std::string_view what) override {
      if (std::string_view(label) != "segment") return Storage::allocate(label, fd, size, what);
      return ::ftruncate(fd, off_t(size)) == 0 ? Result<void>() : fail_errno("truncate");
    }
  } storage;
  auto journal = must(Journal::open(storage, volume_, lookup_, report_));
  const std::string name(kMaxNameBytes, 'n');
  Record r = create_of(1, name);
  Lsn last{};
  for (Lsn lsn; (lsn = journal->append(r)) != Lsn{0};) last = lsn;
  EXPECT_EQ(value(last) / kSegment, 1023u);
  const SealedEpoch sealed = journal->seal();
  auto published = journal->publish(sealed);  // unmaps what the epoch had
  while (!published) published = journal->publish(sealed);
  Record next = create_of(2, name);
  while (journal->append(next) == Lsn{0}) std::this_thread::yield();
  EXPECT_GE(value(next.lsn) / kSegment, 1024u);
  EXPECT_FALSE(journal->in_flight().records_lost());
}

// ---- one writer ----

TEST_F(Appending, SegmentOfAnotherVolumeIsRefused) {
  open();
  Record r = write_of(1);
  journal_->append(r);
  close();
  std::string bytes = read_whole_file(segment_file(0));
  write_segment_header(std::as_writable_bytes(std::span(bytes)), Uuid::random(), 0, kSegment);
  write_file(segment_file(0), bytes);
  auto result = try_open();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  EXPECT_NE(result.error().message().find("belongs to another volume"), std::string::npos);
  EXPECT_EQ(read_whole_file(segment_file(0)), bytes) << "nothing was changed";
}

}  // namespace
}  // namespace epochfs::journal
