// The mount's process is killed right after an application saw a call succeed: is the call in
// the journal?
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <atomic>
#include <cstring>
#include <map>
#include <sstream>
#include <thread>

#include "journal/base/unix.h"
#include "schema/control.capnp.h"
#include "tests/e2e/mutator.h"
#include "tests/e2e/odd_trees.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

// One mutation that returned, as the journal should know it.
struct Acknowledged {
  std::string operation;  // as `journal list` calls it
  uint64_t inode = 0;     // 0: only the name counts
  std::string name = {};
  uint64_t offset = 0, length = 0;
};

// Writes as fast as it can until the mount dies under it, and keeps a list of what was
// acknowledged.
class Writer {
 public:
  Writer(std::string directory, int number)
      : directory_(std::move(directory)), number_(number), thread_([this] { run(); }) {}
  ~Writer() { join(); }

  void join() {
    if (thread_.joinable()) thread_.join();
  }
  size_t count() const { return count_; }
  // Once joined.
  const std::vector<Acknowledged>& acknowledged() const { return acknowledged_; }
  int error() const { return error_; }

 private:
  void run() {
    UniqueFd root(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    UniqueFd log(::openat(root.get(), fmt::format("log-{}", number_).c_str(),
                          O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    error_ = root && log ? 0 : errno;
    struct stat st;
    if (error_ == 0 && ::fstat(log.get(), &st) != 0) error_ = errno;
    for (uint64_t turn = 0; error_ == 0; ++turn) one_turn(root.get(), log.get(), st.st_ino, turn);
  }

  void one_turn(int root, int log, uint64_t inode, uint64_t turn) {
    const std::string line = fmt::format("line {:>10} of writer {}\n", turn, number_);
    const uint64_t offset = turn * line.size();
    if (done(::pwrite(log, line.data(), line.size(), off_t(offset)) == ssize_t(line.size()))) {
      note({.operation = "write", .inode = inode, .offset = offset, .length = line.size()});
    }
    const std::string name = fmt::format("file-{}-{}", number_, turn);
    if (error_ || turn % 4) return;
    if (UniqueFd fd(::openat(root, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
        done(bool(fd))) {
      note({.operation = "create", .name = name});
    }
    if (error_ || turn % 8) return;
    if (done(::renameat(root, name.c_str(), root, (name + "-renamed").c_str()) == 0)) {
      note({.operation = "rename", .name = name + "-renamed"});
    }
    if (error_ || turn % 16) return;
    if (done(::unlinkat(root, (name + "-renamed").c_str(), 0) == 0)) {
      note({.operation = "unlink", .name = name + "-renamed"});
    }
  }

  bool done(bool succeeded) {
    if (!succeeded) error_ = errno;
    return succeeded;
  }
  void note(Acknowledged what) {
    acknowledged_.push_back(std::move(what));
    ++count_;
  }

  const std::string directory_;
  const int number_;
  std::vector<Acknowledged> acknowledged_;
  std::atomic<size_t> count_{0};
  int error_ = 0;
  std::thread thread_;
};

// What `journal list --json` says, in the form in which it is asked for.
class Journal {
 public:
  Journal(const Host& host, const std::string& directory) {
    const Outcome outcome = host.epochfs({"journal", "list", directory, "--json"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    capnp::JsonCodec json;
    json.handleByAnnotation<rpc::JournalEntry>();
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) {
      capnp::MallocMessageBuilder message;
      auto entry = message.initRoot<rpc::JournalEntry>();
      json.decode(kj::ArrayPtr<const char>(line.data(), line.size()), entry);
      add(entry.asReader());
    }
  }

  size_t records() const { return records_; }

  bool holds(const Acknowledged& what) const {
    if (what.inode == 0) return names_.count({what.operation, what.name}) > 0;
    // The kernel may have cut a write into several requests.
    auto file = writes_.find(what.inode);
    if (file == writes_.end()) return false;
    uint64_t covered = what.offset;
    for (auto w = file->second.lower_bound(what.offset);
         covered < what.offset + what.length && w != file->second.end() && w->first <= covered;
         ++w) {
      covered = std::max(covered, w->first + w->second);
    }
    return covered >= what.offset + what.length;
  }

 private:
  void add(rpc::JournalEntry::Reader entry) {
    ++records_;
    const std::string operation = entry.getOperation();
    if (operation == "write") {
      uint64_t& length = writes_[entry.getInode()][entry.getOffset()];
      length = std::max(length, entry.getLength());
    }
    const bool renamed = operation == "rename";
    ++names_[{operation, std::string(renamed ? entry.getNewName() : entry.getName())}];
  }

  size_t records_ = 0;
  std::map<uint64_t, std::map<uint64_t, uint64_t>> writes_;  // inode -> offset -> length
  std::map<std::pair<std::string, std::string>, size_t> names_;
};

class KillMountTest : public TwoHosts {
 protected:
  // Kills the mount while writers write, mounts anew, and looks for what they did.
  void kill_under_load(const std::string& directory, size_t operations) {
    make_directory(directory);
    std::vector<std::unique_ptr<Writer>> writers;
    for (int i = 0; i < 4; ++i) writers.push_back(std::make_unique<Writer>(directory, i));
    eventually("the writers write", [&] {
      size_t sum = 0;
      for (const auto& writer : writers) sum += writer->count();
      return sum >= operations;
    });
    a().kill_mount(data());
    for (const auto& writer : writers) writer->join();
    a().mount(data());

    const Journal journal(a(), data());
    size_t checked = 0;
    for (const auto& writer : writers) {
      EXPECT_TRUE(says_mount_is_gone(writer->error())) << std::strerror(writer->error());
      for (const Acknowledged& what : writer->acknowledged()) {
        ++checked;
        ASSERT_TRUE(journal.holds(what))
            << what.operation << " of " << what.name << what.inode << " at " << what.offset << "+"
            << what.length << " is not among " << journal.records() << " records";
      }
    }
    std::printf("%zu acknowledged operations, %zu records\n", checked, journal.records());
  }
};

TEST_F(KillMountTest, NothingAcknowledgedIsMissing) {
  Random random;
  a().mount(data());
  for (int i = 0; i < 5; ++i) {
    kill_under_load(fmt::format("{}/round-{}", data(), i), 500 + random.below(5000));
    if (HasFatalFailure()) return;
  }
}

TEST_F(KillMountTest, ReplicationGoesOnAndEndsEqual) {
  Random random;
  establish();
  for (int i = 0; i < 4; ++i) {
    kill_under_load(fmt::format("{}/round-{}", data(), i), 500 + random.below(3000));
    if (HasFatalFailure()) return;
    ASSERT_TRUE(replica().becomes_equal());
  }
}

TEST_F(KillMountTest, DuringTheInitialCopy) {
  Random random;
  make_many_files(data() + "/many", 50, 8000);
  write_large_file(data() + "/large", 100 << 20, 1);
  establish();
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(Milliseconds(random.below(400)));
    a().kill_mount(data());
    a().mount(data());
    write_file(data() + "/many/1/added-" + std::to_string(i), "more");
  }
  EXPECT_TRUE(replica().becomes_equal());
}

// The mount that comes next knows nothing of the epoch that is being shipped, and saves
// nothing for it.
TEST_F(KillMountTest, AnEpochThatLostItsPinIsNotCommitted) {
  constexpr uint64_t kSize = 64 << 20;  // more than what can be on the way
  const std::string file = data() + "/file";
  write_large_file(file, kSize, 1);
  const std::string before = read_whole_file(file);
  establish({"--interval", "86400"});
  replica().wait_until_idle();
  write_large_file(file, kSize, 3);
  const std::string at_epoch = read_whole_file(file);

  stop_in_a_transfer();
  a().kill_mount(data());
  a().mount(data());
  write_large_file(file, kSize, 5);
  a().unmount(data());
  b().thaw_daemon();
  replica().await_state("Disconnected");
  const std::string held = read_whole_file(copy() + "/file");
  EXPECT_TRUE(held == before || held == at_epoch);
  a().mount(data());
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(KillMountTest, WithEverythingElseKilledToo) {
  Random random;
  Mutator mutator(data(), random);
  mutator.run(500);
  establish();
  for (int i = 0; i < 4; ++i) {
    mutator.run(200);
    if (random.one_in(2)) replica().barrier();
    std::this_thread::sleep_for(Milliseconds(random.below(200)));
    a().kill_daemon();
    b().kill_daemon();
    a().kill_mount(data());
    a().mount(data());
    start_daemons();
  }
  EXPECT_TRUE(replica().becomes_equal());
  EXPECT_TRUE(
      same_tree(mutator.model().snapshot(), snapshot(copy()), {.times = false, .holes = false}));
}

TEST_F(KillMountTest, InTheForegroundItEndsInOrderOnSigterm) {
  Background mount(a().command({"mount", data(), "--state", a().state(), "--foreground"}));
  ASSERT_TRUE(mount.wait_for_line("is mounted", Milliseconds(30'000))) << mount.said();
  write_file(data() + "/file", "written through the mount");
  const Journal journal(a(), data());
  EXPECT_TRUE(journal.holds({.operation = "create", .name = "file"}));
  mount.signal(SIGTERM);
  EXPECT_EQ(mount.wait(Milliseconds(30'000)), 0);
  EXPECT_TRUE(mountpoints_below(data()).empty());
  EXPECT_EQ(read_whole_file(data() + "/file"), "written through the mount");
}

// A killed mount leaves a mountpoint behind that answers nothing.
TEST_F(KillMountTest, AStaleMountpointIsClearedByUnmountToo) {
  a().mount(data());
  a().kill_mount(data());
  struct stat st;
  EXPECT_EQ(::stat((data() + "/x").c_str(), &st), -1);
  EXPECT_TRUE(says_mount_is_gone(errno)) << std::strerror(errno);
  a().must({"unmount", data()});
  EXPECT_TRUE(mountpoints_below(data()).empty());
  write_file(data() + "/plain", "nothing is mounted");
}

}  // namespace
}  // namespace epochfs::testing
