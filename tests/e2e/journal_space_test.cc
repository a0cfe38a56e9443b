// Does the journal's space follow what changed? Do applications and the target fare well when
// it has less than it needs?
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>

#include "journal/base/unix.h"
#include "schema/control.capnp.h"
#include "tests/e2e/disk.h"
#include "tests/e2e/mutator.h"
#include "tests/e2e/odd_trees.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr uint64_t kQuota = 4 << 20;  // segments of 1 MiB then, some ten thousand records each

class JournalSpaceTest : public TwoHosts {
 protected:
  void establish_with(const Arguments& options) {
    mount_options_ = options;
    start_daemons();
    a().mount(data(), options);
    replica().establish();
    ASSERT_TRUE(replica().becomes_equal());
  }

  struct Space {
    uint64_t bytes = 0, checkpoints = 0, lost = 0;
    std::string pressure;
    bool blocking = false;
    int status = 0;
  };
  Space space() {
    const Outcome outcome = a().epochfs({"status", data(), "--json"});
    capnp::MallocMessageBuilder message;
    auto info = message.initRoot<rpc::MountInfo>();
    capnp::JsonCodec().decode(kj::ArrayPtr<const char>(outcome.out.data(), outcome.out.size()),
                              info);
    auto s = info.getSpace();
    return {s.getSegmentBytes() + s.getCheckpointBytes() + s.getPreImageBytes(),
            s.getCheckpoints(),
            info.getRecordsLost(),
            s.getPressure().cStr(),
            s.getBlocking(),
            outcome.status};
  }
  // One small write after the other into one file; false: one of them failed.
  bool rewrite(const std::string& name, uint64_t writes,
               const std::function<uint64_t(uint64_t)>& at) {
    UniqueFd fd(::open((data() + "/" + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    for (uint64_t i = 0; i < writes; ++i) {
      if (::pwrite(fd.get(), &i, sizeof i, off_t(at(i))) != ssize_t(sizeof i)) return false;
    }
    return true;
  }

  Arguments mount_options_;
};

TEST_F(JournalSpaceTest, OverwritesDuringALongPauseTakeNoRoom) {
  establish_with({"--journal-quota", "4M"});
  write_large_file(data() + "/untouched", 20 << 20, 1);
  ASSERT_TRUE(replica().becomes_equal());
  const ReplicaStatus before = replica().status();
  replica().pause();
  // Some 12 MB of records.
  ASSERT_TRUE(rewrite("busy", 120'000, [](uint64_t i) { return (i % 64) * 4096; }));
  EXPECT_LE(space().bytes, kQuota + (1 << 20));
  EXPECT_GE(space().checkpoints, 1u);
  eventually("it is well within its quota again", [&] {
    const Space now = space();
    return now.pressure == "none" && now.status == 0;
  });
  replica().go_on();
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_LT(replica().status().bytes_sent - before.bytes_sent, 1u << 20) << "no more than changed";
}

// Random changes of all kinds, under a pause of many segments, in which everything is
// killed and mounted again: checkpoints tell the target the same as the records did.
TEST_F(JournalSpaceTest, CheckpointsTellTheSameAsTheRecords) {
  Random random;
  establish_with({"--journal-quota", "4M"});
  make_directory(data() + "/tree");
  Mutator mutator(data() + "/tree", random);
  mutator.run(300);
  ASSERT_TRUE(replica().becomes_equal());
  for (int round = 0; round < 3; ++round) {
    replica().pause();
    for (int part = 0; part < 6; ++part) {
      mutator.run(150);
      ASSERT_TRUE(rewrite("busy", 12'000, [&](uint64_t) { return random.below(4000) * 4096; }));
      if (part == 3 && round == 1) {
        a().kill_mount(data());
        a().mount(data(), mount_options_);
      }
      if (part == 4 && round == 2) {
        a().unmount(data());
        a().mount(data(), mount_options_);
      }
    }
    EXPECT_GE(space().checkpoints, 1u);
    const auto before = replica().status();
    replica().go_on();
    ASSERT_TRUE(replica().becomes_equal()) << "round " << round;
    EXPECT_GT(replica().status().epochs_sent, before.epochs_sent);
  }
}

// What was pinned is saved from changes that came after it, though only checkpoints know
// what had changed.
TEST_F(JournalSpaceTest, EpochsOutOfCheckpointsAreExact) {
  establish_with({"--journal-quota", "4M"});
  constexpr uint64_t kPages = 20'000;
  ASSERT_TRUE(rewrite("file", kPages, [](uint64_t i) { return i * 4096; }));
  ASSERT_TRUE(replica().becomes_equal());
  // Every page holds the number of the round that wrote it last, in ascending order.
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> rounds{0};
  std::thread writer([&] {
    UniqueFd fd(::open((data() + "/file").c_str(), O_WRONLY | O_CLOEXEC));
    for (uint64_t round = 1; !stop; ++round) {
      for (uint64_t page = 0; page < kPages && !stop; ++page) {
        if (::pwrite(fd.get(), &round, sizeof round, off_t(page * 4096)) != sizeof round) return;
      }
      rounds = round;
    }
  });
  auto why_not = [&]() -> std::string {
    UniqueFd fd(::open((copy() + "/file").c_str(), O_RDONLY | O_CLOEXEC));
    uint64_t last = UINT64_MAX;
    for (uint64_t page = 0; page < kPages; ++page) {
      uint64_t round = 0;
      if (::pread(fd.get(), &round, sizeof round, off_t(page * 4096)) != sizeof round) {
        return "short";
      }
      if (page == 0 || rounds == 0) last = round;
      if (rounds > 1 && (round > last || round + 1 < last)) {
        return fmt::format("page {} is of round {}, the one before it of {}", page, round, last);
      }
      last = round;
    }
    return "";
  };
  eventually("two rounds are written", [&] { return rounds > 1; });
  for (int look = 0; look < 3; ++look) {
    replica().pause();
    const uint64_t now = rounds;
    eventually("more than a journal's worth is written", [&] { return rounds > now + 4; });
    EXPECT_GE(space().checkpoints, 1u);
    replica().go_on();
    expect_at_an_epoch(why_not);
  }
  stop = true;
  writer.join();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(JournalSpaceTest, ScatteredChangesDegradeToCoarserExtentsAndArriveAll) {
  establish_with({"--journal-quota", "4M"});
  {
    UniqueFd fd(::open((data() + "/file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_EQ(::ftruncate(fd.get(), 8 << 20), 0);
  }
  ASSERT_TRUE(replica().becomes_equal());
  replica().pause();
  // A range each: sixteen bytes of checkpoint.
  Random random;
  for (int part = 0; part < 25 && space().pressure != "coarser extents"; ++part) {
    ASSERT_TRUE(rewrite("file", 20'000, [&](uint64_t) { return random.below(1 << 19) * 16; }));
  }
  EXPECT_EQ(space().pressure, "coarser extents");
  EXPECT_EQ(space().status, 3);
  // The relationship says so too, by a daemon that has not yet had to do with the mount.
  a().kill_daemon();
  a().start_daemon();
  eventually("the relationship's status says so", [&] {
    const Outcome shown = a().epochfs({"status", replica().id()});
    return shown.status == 3 &&
           shown.out.find("room is short   coarser extents, since ") != std::string::npos;
  });
  EXPECT_LE(space().bytes, kQuota + (1 << 20));
  EXPECT_EQ(space().lost, 0u);
  replica().go_on();
  EXPECT_TRUE(replica().becomes_equal());
  eventually("the pressure is over", [&] {
    write_file(data() + "/more", std::to_string(space().bytes));
    return rewrite("busy", 5000, [](uint64_t) { return 0; }) && space().pressure == "none";
  });
}

// Files come, go and move in one place, more than there is room to tell; a little happens
// elsewhere, and some moves from the one to the other.
TEST_F(JournalSpaceTest, ManyChangesInOnePlaceEndInAComparisonOfThatSubtree) {
  constexpr uint64_t kStill = 2000;
  Random random;
  establish_with({"--journal-quota", "4M"});
  for (const char* name : {"/out", "/work", "/work/quiet", "/work/busy", "/work/busy/tree"}) {
    make_directory(data() + name);
  }
  make_many_files(data() + "/still", 10, kStill);
  Mutator busy(data() + "/work/busy/tree", random), quiet(data() + "/work/quiet", random);
  busy.run(300);
  quiet.run(300);
  ASSERT_TRUE(replica().becomes_equal());
  auto file = [&](int round, int n) {
    return fmt::format("{}/work/busy/{}/file with a long name, number {}", data(), round, n);
  };
  int made_before = 0;
  for (int round = 0; round < 3; ++round) {
    int made = 0;
    const uint64_t compared_before = replica().status().compared_ended_ns;
    replica().pause();
    make_directory(fmt::format("{}/work/busy/{}", data(), round));
    for (int n = 0; n < 60'000 && (n % 3000 || space().pressure != "subtrees"); ++n) {
      write_file(file(round, n), n % 7 ? "" : "something");
      made = n;
      if (n % 50 == 0) busy.run(3);
      if (n % 500 == 0) quiet.run(3);
      if (n % 1000 == 0) {  // out of it, from before and from now
        ASSERT_EQ(
            ::rename(file(round, n).c_str(), fmt::format("{}/out/{}-{}", data(), round, n).c_str()),
            0);
        if (n + 1 < made_before) {
          ASSERT_EQ(::unlink(file(round - 1, n + 1).c_str()), 0);
        }
      }
    }
    made_before = made;
    ASSERT_EQ(space().pressure, "subtrees");
    EXPECT_LE(space().bytes, kQuota + (1 << 20));
    if (round == 0) {
      a().kill_mount(data());
      a().mount(data(), mount_options_);
    }
    // A whole directory leaves it, known to the target or not.
    if (round > 0) {
      ASSERT_EQ(::rename(fmt::format("{}/work/busy/{}", data(), round - 1).c_str(),
                         fmt::format("{}/out/{}", data(), round - 1).c_str()),
                0);
    }
    std::jthread writer([&] { busy.run(1000); });
    replica().go_on();
    if (round == 1) {
      b().kill_daemon();
      b().start_daemon();
    }
    eventually("it is compared",
               [&] { return replica().status().compared_ended_ns > compared_before; });
    writer.join();
    ASSERT_TRUE(replica().becomes_equal()) << "round " << round;
    const ReplicaStatus now = replica().status();
    EXPECT_EQ(now.compared_reason, "the journal had room to tell only where something changed");
    EXPECT_LT(now.files_compared, snapshot(copy()).size() - kStill) << "of what did not change";
  }
}

TEST_F(JournalSpaceTest, TooManyChangedFilesEndInAComparisonOfTheTree) {
  establish_with({"--journal-quota", "4M"});
  replica().pause();
  UniqueFd root(::open(data().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 60'000 && (i % 5000 || space().pressure != "whole tree"); ++i) {
    UniqueFd fd(::openat(root.get(), fmt::format("a file with a long name, number {}", i).c_str(),
                         O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd);
  }
  EXPECT_EQ(space().pressure, "whole tree");
  EXPECT_LE(space().bytes, kQuota + (1 << 20));
  EXPECT_EQ(space().lost, 0u);
  replica().go_on();
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(JournalSpaceTest, BlocksApplicationsWhereThatWasAskedFor) {
  establish_with({"--journal-quota", "4M", "--when-full", "block"});
  replica().pause();
  UniqueFd shared(::open((data() + "/mapped").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_EQ(::ftruncate(shared.get(), 4096), 0);
  char* page = static_cast<char*>(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, shared.get(), 0));
  ASSERT_NE(page, MAP_FAILED);
  std::atomic<uint64_t> written{0};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Random random(7);
    UniqueFd fd(::open((data() + "/file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    if (::ftruncate(fd.get(), 8 << 20) != 0) return;
    a().must({"barrier", data()});
    for (; !stop; ++written) {
      const uint64_t at = random.below(1 << 19) * 16;
      if (::pwrite(fd.get(), "x", 1, off_t(at)) != 1) return;
    }
  });
  // New in the pause, so all of it counts, and one range does; what is there already is
  // told in ranges once it is replicated.
  replica().go_on();
  replica().wait_until_idle();
  replica().pause();
  *page = 'x';
  eventually("it blocks", [&] { return space().blocking; });
  EXPECT_EQ(space().status, 3);
  eventually("the relationship says so", [&] {  // now and then there is some room
    const ReplicaStatus shown = replica().status();
    return shown.blocking && shown.exit_status == 3;
  });
  const uint64_t held_at = written;
  EXPECT_EQ(a().epochfs({"barrier", data()}).status, 0) << "what it flushes is not held";
  EXPECT_LE(written, held_at + 100'000);
  EXPECT_EQ(space().lost, 0u);
  replica().go_on();
  eventually("it goes on", [&] { return !space().blocking && written > held_at; });
  stop = true;
  writer.join();
  ::munmap(page, 4096);
  EXPECT_TRUE(replica().becomes_equal());
}

// The disk of the journal, not of the data, is filled by somebody else.
TEST_F(JournalSpaceTest, AFullDiskStopsNoApplicationAndLosesNoDifference) {
  if (auto why = Disk::why_not("mkfs.ext4")) GTEST_SKIP() << *why;
  Disk disk(a().folder(), "journal-disk", 40 << 20, {"mkfs.ext4", "-q"}, "");
  establish_with({"--journal", disk.path() + "/journal", "--journal-quota", "16M"});
  replica().pause();
  {
    UniqueFd filler(::open((disk.path() + "/filler").c_str(), O_WRONLY | O_CREAT, 0600));
    const std::string bytes(64 << 10, 'x');
    while (::write(filler.get(), bytes.data(), bytes.size()) > 0) continue;
    ASSERT_EQ(errno, ENOSPC);
  }
  UniqueFd root(::open(data().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 60'000 && (i % 5000 || space().lost == 0); ++i) {
    UniqueFd fd(::openat(root.get(), fmt::format("a file with a long name, number {}", i).c_str(),
                         O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd) << i;
    ASSERT_EQ(::write(fd.get(), &i, sizeof i), ssize_t(sizeof i));
  }
  EXPECT_GT(space().lost, 0u);
  EXPECT_EQ(space().status, 3);
  eventually("the relationship says so", [&] { return replica().status().exit_status == 3; });

  ASSERT_EQ(::unlink((disk.path() + "/filler").c_str()), 0);
  eventually("an epoch can be sealed again", [&] {
    return a().epochfs({"barrier", data()}).status == 0;
  });
  replica().go_on();
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_EQ(replica().status().compared_reason, "the journal was full");
  write_file(data() + "/later", "arrives as a change");
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(JournalSpaceTest, QuotaThatIsTooSmallForTheJournalIsRefused) {
  a().mount(data());
  a().unmount(data());
  const Outcome refused =
      a().epochfs({"mount", data(), "--state", a().state(), "--journal-quota", "64M"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("give it 256M at least"), std::string::npos) << refused.err;
}

TEST_F(JournalSpaceTest, DamagedCursorStopsNoMount) {
  establish_with({});
  replica().pause();
  const std::string cursor = a().journal(data()) + "/cursors/" + replica().id();
  a().unmount(data());
  write_file(cursor, "no number\n");
  a().mount(data());
  write_file(data() + "/file", "written");
  eventually("status says so", [&] {
    const Outcome outcome = a().epochfs({"status", data()});
    return outcome.status == 3 && outcome.out.find(replica().id()) != std::string::npos;
  });
  replica().go_on();
  EXPECT_TRUE(replica().becomes_equal()) << "the daemon writes it anew";
  write_file(data() + "/file", "written again");
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_EQ(space().status, 0);
}

TEST_F(JournalSpaceTest, NothingIsKeptThatNobodyNeedsWhereThatWasAskedFor) {
  a().mount(data(), {"--journal-quota", "4M", "--journal-keep", "0"});
  ASSERT_TRUE(rewrite("busy", 60'000, [](uint64_t i) { return (i % 64) * 4096; }));
  a().must({"barrier", data()});
  ASSERT_TRUE(rewrite("busy", 15'000, [](uint64_t i) { return (i % 64) * 4096; }));
  eventually("segments go", [&] { return space().bytes <= 4u << 20; });
}

}  // namespace
}  // namespace epochfs::testing
