// Recovery that is itself cut short, of a process killed while it appends, and of a machine
// whose power was cut.
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <map>
#include <set>
#include <shared_mutex>
#include <thread>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"
#include "tests/unit/journal/log/recovery_support.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

// ---- recovery that is itself cut short ----

TEST_F(Recovery, FailureAtEveryStorageCallIsRepeatable) {
  for (int failing = 0;; ++failing) {
    TemporaryDirectory dir;
    Volume volume = make_volume(dir, kSegment);
    FailingStorage storage;
    auto journal = must(Journal::open(storage, volume, lookup_, report_));
    Lsn hole{};
    for (uint64_t i = 1; i <= 1500; ++i) {
      Record r = write_of(i);
      journal->append(r);
      if (i == 500) must(journal->publish(journal->seal()));
      if (i == 700) hole = r.lsn;
      if (i == 1000) journal->seal();  // not published
    }
    const Record unfinished = write_of(700);
    journal->in_flight().claim()->fill({&unfinished, 1});
    journal.reset();
    poke(dir / "volume/segments/" + segment_name(value(hole) / kSegment), value(hole) % kSegment,
         std::string(96, '\0'));

    storage.calls_until_failure = failing;
    RecoveryReport report;
    auto failed = Journal::open(storage, volume, lookup_, report);
    const bool all_done = failed.has_value();
    if (failed) failed->reset();
    storage.calls_until_failure = -1;
    report = {};
    journal = must(Journal::open(storage, volume, lookup_, report));
    EXPECT_FALSE(report.damaged) << failing;

    std::map<uint64_t, int> times;
    std::vector<Damage> damage;
    must(JournalReader(volume).read_all(
        Lsn{0},
        [&](const Record& r) {
          if (r.type == RecordType::kWrite) ++times[r.file.inode];
          return true;
        },
        &damage));
    EXPECT_TRUE(damage.empty()) << failing;
    for (uint64_t i = 1; i <= 1500; ++i) ASSERT_GE(times[i], 1) << failing;
    auto epochs = must(read_epochs(volume.dir()));
    EXPECT_EQ(epochs.size(), 2u) << failing;
    EXPECT_EQ(journal->open_epoch(), EpochId{3});
    if (all_done) {
      EXPECT_GT(failing, 5);
      break;
    }
  }
}

// ---- kill -9 of a process that appends ----

struct Ack {
  enum Kind : uint64_t { kAppended, kSlotFilled, kPublished } kind;
  uint64_t number;  // inode or epoch
  uint64_t lsn;
};

void acknowledge(int pipe, Ack ack) {
  if (::write(pipe, &ack, sizeof ack) != ssize_t(sizeof ack)) ::_exit(3);
}

// Appends from threads, seals now and then, and never ends by itself.
[[noreturn]] void append_until_killed(const std::string& path, int pipe, uint64_t round) {
  constexpr uint64_t kThreads = 4;
  Volume volume = must(Volume::open(path));
  if (!must(volume.lock())) ::_exit(4);
  RecoveryReport report;
  auto journal = must(Journal::open(
      Storage::system(), volume, [](auto&&...) { return NamedFile{}; }, report));

  InFlight::Slot* stuck = journal->in_flight().claim();
  Record unfinished;
  unfinished.type = RecordType::kCreate;
  unfinished.parent = {2, 1};
  const std::string name = "unfinished " + std::to_string(round);
  unfinished.name = name;
  stuck->fill({&unfinished, 1});
  acknowledge(pipe, {Ack::kSlotFilled, round, 0});

  std::shared_mutex barrier;
  std::atomic<bool> closing{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      InFlight::Slot* slot = journal->in_flight().claim();
      std::string file_name;
      for (uint64_t i = 0;; ++i) {
        while (closing) std::this_thread::yield();
        const uint64_t inode = round << 48 | t << 40 | i;
        Record r;
        {
          std::shared_lock inside(barrier);
          file_name.assign(1 + i % kMaxNameBytes, static_cast<char>('a' + t));
          r.type = i % 2 ? RecordType::kCreate : RecordType::kWrite;
          r.file = {inode, 1};
          r.range = i % 2 ? ByteRange{} : ByteRange{i, i + 1};
          if (i % 2) r.parent = {2, 1}, r.name = file_name;
          slot->fill({&r, 1});
          if (journal->append(r) == Lsn{0}) ::_exit(5);
          slot->clear();
        }
        acknowledge(pipe, {Ack::kAppended, inode, value(r.lsn)});
      }
    });
  }
  for (;;) {
    closing = true;
    SealedEpoch sealed;
    {
      std::unique_lock outside(barrier);
      sealed = journal->seal();
    }
    closing = false;
    must(journal->publish(sealed));
    acknowledge(pipe, {Ack::kPublished, value(sealed.epoch), value(sealed.seal)});
  }
}

TEST_F(Recovery, WhateverAKilledProcessAcknowledgedIsThere) {
  constexpr uint64_t kRounds = 12;
  lookup_ = [](const FileHandle&, std::string_view name) {
    return name.starts_with("unfinished") ? NamedFile{{99, 9}, {}} : NamedFile{};
  };
  Random random;
  std::map<uint64_t, uint64_t> appended;   // inode -> LSN
  std::map<uint64_t, uint64_t> published;  // epoch -> LSN of its seal
  for (uint64_t round = 1; round <= kRounds; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(ends[0]);
      append_until_killed(volume_.path(), ends[1], round);
    }
    ::close(ends[1]);
    uint64_t acks_left = 200 + random.below(4000);
    bool slot_filled = false;
    Ack ack;
    while (::read(ends[0], &ack, sizeof ack) == ssize_t(sizeof ack)) {
      if (ack.kind == Ack::kAppended) appended[ack.number] = ack.lsn;
      if (ack.kind == Ack::kPublished) published[ack.number] = ack.lsn;
      if (ack.kind == Ack::kSlotFilled) slot_filled = true;
      if (acks_left != 0 && --acks_left == 0) ::kill(child, SIGKILL);  // and read on to the end
    }
    ::close(ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;

    open();
    EXPECT_FALSE(report_.clean);
    EXPECT_FALSE(report_.machine_stopped);
    EXPECT_FALSE(report_.damaged);
    EXPECT_TRUE(slot_filled);
    EXPECT_GE(report_.slots_filled, 1u);
    auto records = read();
    EXPECT_TRUE(damage_.empty());
    std::map<uint64_t, const Kept*> by_lsn;
    bool uncertain = false;
    for (const Kept& k : records) {
      by_lsn[value(k.record.lsn)] = &k;
      uncertain |= k.record.type == RecordType::kUncertainName &&
                   k.name == "unfinished " + std::to_string(round) &&
                   k.record.file == FileId{99, 9};
    }
    EXPECT_TRUE(uncertain) << "a filled slot becomes an uncertain record";
    for (const auto& [inode, lsn] : appended) {
      ASSERT_TRUE(by_lsn.count(lsn)) << "acknowledged and not there";
      const Kept& k = *by_lsn[lsn];
      const uint64_t t = inode >> 40 & 0xff, i = inode & ((uint64_t{1} << 40) - 1);
      ASSERT_EQ(k.record.file.inode, inode);
      if (i % 2) {
        ASSERT_EQ(k.name, std::string(1 + i % kMaxNameBytes, static_cast<char>('a' + t)));
      } else {
        ASSERT_EQ(k.record.range, (ByteRange{i, i + 1}));
      }
    }
    for (const auto& [epoch, lsn] : published) {
      auto entry = must(read_epoch(volume_.dir(), EpochId{epoch}));
      ASSERT_TRUE(entry);
      ASSERT_EQ(value(entry->epoch), epoch);
      ASSERT_EQ(value(entry->seal), lsn);
    }
    EXPECT_TRUE(gaps(records).empty());
    round % 2 ? kill() : close();
  }
}

// ---- power loss ----

// Drops a random part of what was not synced, by page or by sector.
TEST_F(Recovery, PowerLossNeverInventsLosesNothingSyncedAndIsNoticed) {
  constexpr uint64_t kPage = 4096, kSector = 512;
  Random random;
  for (int round = 0; round < 40; ++round) {
    TemporaryDirectory dir;
    Volume volume = make_volume(dir, kSegment);
    auto journal = must(Journal::open(storage_, volume, lookup_, report_));
    std::map<Lsn, uint64_t> appended;
    uint64_t inode = 0;
    Lsn synced{kSegmentHeaderBytes};
    const uint64_t steps = 1 + random.below(3000);
    for (uint64_t i = 0; i < steps; ++i) {
      Record r = write_of(++inode);
      ASSERT_NE(journal->append(r), Lsn{0});
      appended[r.lsn] = inode;
      if (random.one_in(700)) {
        must(journal->sync());
        synced = journal->statistics().tail;
      }
      if (random.one_in(300)) {
        must(journal->publish(journal->seal()));
        synced = journal->statistics().tail;
      }
    }
    // One seal that was not published.
    if (random.one_in(2)) {
      journal->seal();
      for (int i = 0; i < 20; ++i) {
        Record r = write_of(++inode);
        journal->append(r);
        appended[r.lsn] = inode;
      }
    }
    const uint64_t tail = value(journal->statistics().tail);
    journal.reset();
    poke(dir / "volume/in-flight", 16, "another boot");
    const uint64_t unit = random.one_in(2) ? kPage : kSector;
    const uint64_t chance = 1 + random.below(6);
    for (uint64_t at = value(synced) / unit * unit; at < tail; at += unit) {
      if (!random.one_in(chance)) continue;
      // The older version of a unit that a sync has covered in part is what it was then.
      const uint64_t from = std::max(at, value(synced)), to = at + unit;
      poke(dir / "volume/segments/" + segment_name(at / kSegment), from % kSegment,
           std::string(to - from, '\0'));
    }

    RecoveryReport report;
    journal = must(Journal::open(storage_, volume, lookup_, report));
    EXPECT_TRUE(report.machine_stopped);
    auto check = [&](size_t expected_gaps) {
      std::vector<Damage> damage;
      size_t gaps = 0;
      EpochId newest{};
      std::map<Lsn, uint64_t> found;
      must(JournalReader(volume).read_all(
          Lsn{0},
          [&](const Record& r) {
            if (r.type == RecordType::kPadding) return true;
            EXPECT_GE(r.epoch, newest);
            newest = r.epoch;
            gaps += r.type == RecordType::kGap;
            if (r.type != RecordType::kWrite) return true;
            found[r.lsn] = r.file.inode;
            EXPECT_TRUE(appended.count(r.lsn) && appended[r.lsn] == r.file.inode) << "invented";
            return true;
          },
          &damage));
      EXPECT_TRUE(damage.empty());
      EXPECT_EQ(gaps, expected_gaps);
      for (const auto& [lsn, inode] : appended) {
        if (lsn >= synced) break;
        EXPECT_TRUE(found.count(lsn)) << "synced and lost: " << value(lsn);
      }
    };
    check(1);
    auto epochs = must(read_epochs(volume.dir()));
    EXPECT_EQ(value(journal->open_epoch()), epochs.size() + 1);

    // Life goes on over whatever stood there.
    synced = journal->statistics().tail;
    std::erase_if(appended, [&](const auto& entry) { return entry.first >= synced; });
    std::vector<Lsn> lsns;
    std::set<Lsn> kept;
    must(JournalReader(volume).read_all(
        Lsn{0},
        [&](const Record& r) {
          if (r.type == RecordType::kWrite) kept.insert(r.lsn);
          return true;
        },
        nullptr));
    std::erase_if(appended, [&](const auto& entry) { return !kept.count(entry.first); });
    for (int i = 0; i < 1500; ++i) {
      Record r = write_of(++inode);
      ASSERT_NE(journal->append(r), Lsn{0});
      appended[r.lsn] = inode;
    }
    must(journal->publish(journal->seal()));
    synced = journal->statistics().tail;
    journal.reset();
    report = {};
    journal = must(Journal::open(storage_, volume, lookup_, report));
    EXPECT_FALSE(report.machine_stopped);
    EXPECT_FALSE(report.damaged);
    EXPECT_EQ(report.bytes_skipped, 0u);
    check(1);
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace epochfs::journal
