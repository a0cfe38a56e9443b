// Does everything that was fsynced survive a power cut, and is every difference between source
// and target noticed? The source's data, journal and daemon state lie on a disk
// (power_cut_disk.h) whose power is cut. The target goes on.
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "journal/base/unix.h"
#include "schema/control.capnp.h"
#include "tests/e2e/operation.h"
#include "tests/e2e/power_cut_disk.h"
#include "tests/e2e/replica.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr size_t kBlock = 4096, kSector = 512;

// What every sector begins with: a disk writes it whole or not at all.
struct Stamp {
  uint64_t file = 0, block = 0, sector = 0, version = 0;
};

void fill_block(char* to, uint64_t file, uint64_t block, uint64_t version) {
  for (uint64_t s = 0; s < kBlock / kSector; ++s) {
    const Stamp stamp{file, block, s, version};
    for (size_t at = 0; at < kSector; at += sizeof stamp) {
      std::memcpy(to + s * kSector + at, &stamp, sizeof stamp);
    }
  }
}

// One application. Writes until the mount is gone.
class Writer {
 public:
  Writer(std::string directory, uint64_t seed) : directory_(std::move(directory)), random_(seed) {}
  virtual ~Writer() { join(); }
  void start() {
    thread_ = std::thread([this] {
      while (!stop_ && turn()) ++turns_;
      end();
    });
  }
  void join() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  size_t turns() const { return turns_; }
  // From now on what was fsynced counts as what it is now.
  virtual void remember_what_is_fsynced() {}
  // What is wrong with it in `directory`; empty: nothing.
  virtual std::string why_not(const std::string&) const { return ""; }

 protected:
  virtual bool turn() = 0;  // false: the mount is gone
  virtual void end() {}     // lets go of files
  const std::string directory_;
  Random random_;

 private:
  std::atomic<size_t> turns_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Overwrites blocks of one large file in place, and fsyncs now and then.
class BlockWriter : public Writer {
 public:
  static constexpr uint64_t kBlocks = 64;
  BlockWriter(std::string directory, uint64_t seed, uint64_t number, int flags)
      : Writer(std::move(directory), seed),
        number_(number),
        name_(fmt::format("blocks-{}", number)),
        flags_(flags) {
    const std::string path = directory_ + "/" + name_;
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    for (uint64_t b = 0; b < kBlocks; ++b) {
      fill_block(buffer_, number_, b, 0);
      if (::pwrite(fd.get(), buffer_, kBlock, off_t(b * kBlock)) != ssize_t(kBlock)) {
        throw_errno("write " + path);
      }
    }
  }
  ~BlockWriter() override { join(); }

  void remember_what_is_fsynced() override {
    std::lock_guard lock(mutex_);
    remembered_ = fsynced_;
  }
  std::string why_not(const std::string& directory) const override {
    const std::string bytes = read_whole_file(directory + "/" + name_);
    if (bytes.size() != kBlocks * kBlock) return fmt::format("{}: {} bytes", name_, bytes.size());
    for (size_t at = 0; at < bytes.size(); at += kSector) {
      Stamp stamp;
      std::memcpy(&stamp, bytes.data() + at, sizeof stamp);
      const uint64_t block = at / kBlock;
      if (stamp.file != number_ || stamp.block != block || stamp.sector != at % kBlock / kSector ||
          stamp.version < remembered_[block]) {
        return fmt::format("{}: at {} version {} of block {}, fsynced was {}", name_, at,
                           stamp.version, stamp.block, remembered_[block]);
      }
    }
    return "";
  }

 private:
  bool turn() override {
    if (!fd_) {
      fd_.reset(::open((directory_ + "/" + name_).c_str(), O_RDWR | O_CLOEXEC | flags_));
      if (!fd_) return false;
    }
    const uint64_t block = random_.below(kBlocks);
    fill_block(buffer_, number_, block, ++version_);
    if (::pwrite(fd_.get(), buffer_, kBlock, off_t(block * kBlock)) != ssize_t(kBlock))
      return false;
    written_[block] = version_;
    if (random_.one_in(50)) {
      if (::fdatasync(fd_.get()) != 0) return false;
      std::lock_guard lock(mutex_);
      fsynced_ = written_;
    }
    if (random_.one_in(20)) std::this_thread::sleep_for(Milliseconds(2));
    return true;
  }

  void end() override { fd_.reset(); }

  const uint64_t number_;
  const std::string name_;
  const int flags_;
  UniqueFd fd_;
  uint64_t version_ = 0;
  alignas(kBlock) char buffer_[kBlock];
  using Versions = std::array<uint64_t, kBlocks>;
  Versions written_{};
  std::mutex mutex_;
  Versions fsynced_{}, remembered_{};
};

// Overwrites small files in place, cuts them and lets them grow, and never fsyncs.
class CarelessWriter : public Writer {
 public:
  static constexpr uint64_t kFiles = 60;
  CarelessWriter(std::string directory, uint64_t seed) : Writer(std::move(directory), seed) {
    make_directory(directory_ + "/careless");
    for (uint64_t i = 0; i < kFiles; ++i) write_file(name(i), std::string(2 * kBlock, 'a'));
  }
  ~CarelessWriter() override { join(); }

 private:
  std::string name(uint64_t i) const { return fmt::format("{}/careless/{}", directory_, i); }
  bool turn() override {
    UniqueFd fd(::open(name(random_.below(kFiles)).c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return false;
    bool well;
    if (random_.one_in(10)) {
      well = ::ftruncate(fd.get(), off_t(random_.below(3 * kBlock))) == 0;
    } else {
      const std::string bytes = bytes_of(random_.u64() | 1, 1 + random_.below(kBlock));
      well = ::pwrite(fd.get(), bytes.data(), bytes.size(), off_t(random_.below(kBlock))) > 0;
    }
    std::this_thread::sleep_for(Milliseconds(random_.below(4)));
    return well;
  }
};

// Makes files, appends, renames and removes; what it fsyncs it leaves as it is.
class Maker : public Writer {
 public:
  Maker(std::string directory, uint64_t seed) : Writer(std::move(directory), seed) {
    make_directory(directory_ + "/kept");
    make_directory(directory_ + "/loose");
  }
  ~Maker() override { join(); }

  void remember_what_is_fsynced() override {
    std::lock_guard lock(mutex_);
    remembered_ = fsynced_;
  }
  const std::map<std::string, std::string>& remembered() const { return remembered_; }
  std::string why_not(const std::string& directory) const override {
    for (const auto& [name, bytes] : remembered_) {
      if (::access((directory + "/" + name).c_str(), F_OK) != 0) return name + " is missing";
      if (read_whole_file(directory + "/" + name) != bytes) return name + " has other bytes";
    }
    return "";
  }

 private:
  static bool write(int dir, const std::string& name, const std::string& bytes, bool fsync) {
    UniqueFd fd(::openat(dir, name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    return fd && ::write(fd.get(), bytes.data(), bytes.size()) == ssize_t(bytes.size()) &&
           (!fsync || ::fsync(fd.get()) == 0);
  }
  bool turn() override {
    UniqueFd root(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root) return false;
    const uint64_t n = number_++;
    const std::string bytes = bytes_of(random_.u64() | 1, 1 + random_.below(20'000));
    std::this_thread::sleep_for(Milliseconds(random_.below(4)));
    if (n % 8 == 0) {
      const std::string name = fmt::format("kept/{}", n);
      UniqueFd kept(::openat(root.get(), "kept", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!kept || !write(root.get(), name, bytes, true) || ::fsync(kept.get()) != 0) return false;
      std::lock_guard lock(mutex_);
      fsynced_[name] = bytes;
      return true;
    }
    auto loose = [](uint64_t i) { return fmt::format("loose/{}", i % 100); };
    if (n % 8 == 5) return ::unlinkat(root.get(), loose(n - 40).c_str(), 0) == 0 || errno == ENOENT;
    if (n % 8 < 3) {
      return ::renameat(root.get(), loose(n - 3).c_str(), root.get(), loose(n).c_str()) == 0 ||
             errno == ENOENT;
    }
    return write(root.get(), loose(n), bytes, false);
  }

  uint64_t number_ = 0;
  std::mutex mutex_;
  std::map<std::string, std::string> fsynced_, remembered_;
};

// Paths of which the journal lists a creation and a write.
std::set<std::string> listed_by_journal(const Host& host, const std::string& directory,
                                        const std::string& pattern) {
  const Outcome outcome = host.epochfs({"journal", "list", directory, "--json", "--path", pattern});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  capnp::JsonCodec json;
  json.handleByAnnotation<rpc::JournalEntry>();
  std::istringstream lines(outcome.out);
  std::map<std::string, int> found;
  for (std::string line; std::getline(lines, line);) {
    capnp::MallocMessageBuilder message;
    auto entry = message.initRoot<rpc::JournalEntry>();
    json.decode(kj::ArrayPtr<const char>(line.data(), line.size()), entry);
    const std::string operation = entry.getOperation().cStr();
    found[entry.getPath().cStr()] |= operation == "create" ? 1 : operation == "write" ? 2 : 0;
  }
  std::set<std::string> out;
  for (const auto& [path, what] : found) {
    if (what == 3) out.insert(path);
  }
  return out;
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

class PowerLossTest : public ::testing::Test {
 protected:
  void start_on(const std::string& type) {
    if (auto why = Host::why_not()) GTEST_SKIP() << *why;
    if (auto why = PowerCutDisk::why_not(type)) GTEST_SKIP() << *why;
    a_ = std::make_unique<Host>("a");
    b_ = std::make_unique<Host>("b");
    disk_ = std::make_unique<PowerCutDisk>(*a_, "disk", type);
    make_directory(disk_->path() + "/state");
    make_directory(disk_->path() + "/data");
    if (::symlink((disk_->path() + "/state").c_str(), a_->state().c_str()) != 0) {
      throw_errno("link state");
    }
    replica_ =
        std::make_unique<Replica>(*a_, disk_->path() + "/data", *b_, b_->make_directory("copy"));
    a_->start_daemon();
    b_->start_daemon();
    a_->mount(data());
    replica_->establish();
    ASSERT_TRUE(becomes_equal());
  }
  const std::string& data() const { return replica_->source_directory(); }
  const std::string& copy() const { return replica_->target_directory(); }

  // Contents count; what is preallocated does not travel.
  ::testing::AssertionResult becomes_equal() {
    const uint64_t epoch = replica_->barrier();
    const TreeSnapshot wanted = snapshot(data());
    replica_->wait_for_epoch(epoch);
    return same_tree(wanted, snapshot(copy()), {.holes = false});
  }
  void make_all_durable() {
    UniqueFd fd = *open_directory(disk_->path());
    if (::syncfs(fd.get()) != 0) throw_errno("sync the disk");
  }
  // Everything of the source goes, and the disk comes back with what cut() has noted.
  void go_dark() {
    a_->kill_daemon();
    a_->kill_mount(data());
  }
  void come_back() {
    a_->must({"unmount", data()});
    disk_->restart();
    for (const auto& volume :
         std::filesystem::directory_iterator(disk_->path() + "/state/volumes")) {
      UniqueFd fd(::open((volume.path() / "in-flight").c_str(), O_WRONLY | O_CLOEXEC));
      if (!fd || ::pwrite(fd.get(), "another boot", 12, 16) != 12) throw_errno("change the boot");
    }
  }
  // What the mount says.
  std::string start_again() {
    std::string said = a_->mount(data());
    a_->start_daemon();
    return said;
  }

  std::unique_ptr<Host> a_, b_;
  std::unique_ptr<PowerCutDisk> disk_;
  std::unique_ptr<Replica> replica_;
};

class PowerLossOn : public PowerLossTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { start_on(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(, PowerLossOn, ::testing::Values("ext4", "xfs", "btrfs"),
                         [](const auto& type) { return std::string(type.param); });

TEST_P(PowerLossOn, UnderLoadLosesNothingFsyncedAndNoDifferenceGoesUnnoticed) {
  Random random;
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(fmt::format("round {}", round));
    const std::string in = fmt::format("{}/round-{}", data(), round);
    make_directory(in);
    std::vector<std::unique_ptr<Writer>> writers;
    writers.push_back(std::make_unique<BlockWriter>(in, random.u64(), 1, 0));
    writers.push_back(std::make_unique<BlockWriter>(in, random.u64(), 2, O_DIRECT));
    writers.push_back(std::make_unique<CarelessWriter>(in, random.u64()));
    writers.push_back(std::make_unique<CarelessWriter>(in + "/careless", random.u64()));
    auto maker = std::make_unique<Maker>(in, random.u64());
    const Maker& made = *maker;
    writers.push_back(std::move(maker));
    make_all_durable();
    ASSERT_TRUE(becomes_equal());
    for (auto& writer : writers) writer->start();
    std::this_thread::sleep_for(Milliseconds(500 + random.below(7000)));
    for (auto& writer : writers) writer->remember_what_is_fsynced();
    disk_->cut();
    go_dark();
    size_t turns = 0;
    for (auto& writer : writers) {
      writer->join();
      turns += writer->turns();
    }
    come_back();
    const std::string said = start_again();
    EXPECT_NE(said.find("relationships will reconcile"), std::string::npos) << said;
    std::printf("%zu operations, %zu files kept; %s", turns, made.remembered().size(),
                said.substr(0, said.find('\n') + 1).c_str());
    std::fflush(stdout);
    for (auto& writer : writers) EXPECT_EQ(writer->why_not(in), "");
    const std::set<std::string> listed =
        listed_by_journal(*a_, data(), fmt::format("round-{}/kept/*", round));
    for (const auto& [name, bytes] : made.remembered()) {
      EXPECT_TRUE(listed.count(fmt::format("round-{}/{}", round, name)))
          << name << " is not in the journal";
    }
    ASSERT_TRUE(becomes_equal());
  }
}

// An overwrite in place, whose inode another file's fsync makes durable, and whose bytes
// the kernel has not written yet.
TEST_F(PowerLossTest, BytesThatAreLostWhileTheirTimesAreNotAreNoticed) {
  start_on("ext4");
  if (IsSkipped()) return;
  const std::string victim = data() + "/victim";
  write_file(victim, std::string(64 << 10, 'o'));
  write_file(data() + "/bystander", "as it was");
  a_->unmount(data());  // which settles all that was recorded
  a_->mount(data());
  ASSERT_TRUE(becomes_equal());
  UniqueFd fd(::open(victim.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string news(4096, 'n');
  ASSERT_EQ(::pwrite(fd.get(), news.data(), news.size(), 8192), 4096);
  ASSERT_TRUE(becomes_equal());
  struct stat before, after;
  ASSERT_EQ(::fstat(fd.get(), &before), 0);
  UniqueFd other(::open((data() + "/other").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_EQ(::write(other.get(), "x", 1), 1);
  ASSERT_EQ(::fsync(other.get()), 0);
  disk_->cut();
  fd.reset();
  other.reset();
  go_dark();
  come_back();
  ASSERT_EQ(::stat(victim.c_str(), &after), 0);
  ASSERT_EQ(read_whole_file(victim), std::string(64 << 10, 'o')) << "the kernel was too fast";
  ASSERT_EQ(before.st_size, after.st_size);
  ASSERT_TRUE(same_time(before.st_mtim, after.st_mtim));
  ASSERT_TRUE(same_time(before.st_ctim, after.st_ctim)) << "nobody could tell by that";
  start_again();
  EXPECT_TRUE(becomes_equal());
  EXPECT_EQ(read_whole_file(copy() + "/victim"), std::string(64 << 10, 'o'));
  const ReplicaStatus status = replica_->status();
  EXPECT_EQ(status.compared_reason, "the machine stopped");
  EXPECT_NE(status.compared_ended_ns, 0u);
  EXPECT_EQ(status.files_compared, 3u);
  EXPECT_GE(status.files_differed, 1u);
  EXPECT_LE(status.files_differed, 2u) << "the bystander was settled";
  eventually("the daemon says so", [&] {
    return a_->daemon_said().find("reason=\"the machine stopped\" files=3 ") != std::string::npos;
  });
  const std::string shown = a_->must({"status", replica_->id()});
  EXPECT_NE(shown.find("(the machine stopped): 3 files, "), std::string::npos) << shown;
}

TEST_F(PowerLossTest, WhatACleanUnmountLeftIsThere) {
  start_on("ext4");
  if (IsSkipped()) return;
  write_file(data() + "/file", std::string(64 << 10, 'o'));
  make_all_durable();
  UniqueFd fd(::open((data() + "/file").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::pwrite(fd.get(), "new", 3, 0), 3);
  fd.reset();
  ASSERT_TRUE(becomes_equal());
  a_->kill_daemon();
  a_->unmount(data());
  disk_->cut();
  disk_->restart();
  EXPECT_EQ(read_whole_file(data() + "/file").substr(0, 3), "new");
  const std::string said = start_again();
  EXPECT_EQ(said.find("not unmounted cleanly"), std::string::npos) << said;
  EXPECT_TRUE(becomes_equal());
}

}  // namespace
}  // namespace epochfs::testing
