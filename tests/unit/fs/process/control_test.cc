// Control: does a mount answer over its socket what it should, also when callers
// vanish or ask for too much? No FUSE here: what it serves is a journal and a
// directory.
#include "fs/process/control.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "journal/control/unix_rpc.h"
#include "journal/volume/cursors.h"
#include "journal/volume/labels.h"
#include "schema/control.capnp.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/unit/fs/mount_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;
using namespace std::chrono_literals;

class Control : public MountedJournalTest {
 protected:
  void SetUp() override {
    MountedJournalTest::SetUp();
    server_ = must(ControlServer::start({
        .mountpoint = "/mnt/data",
        .backing_path = dir_ / "backing",
        .backing_dir = backing_.get(),
        .volume = volume_,
        .journal = *journal_,
        .barrier = barrier_,
        .pins = *pins_,
        .recorder = *recorder_,
        .housekeeper = *housekeeper_,
        .flush_mappings = [this] { return flush_(); },
        .features =
            [] {
              return std::vector<std::string>{"one", "two"};
            },
        .missing = [] { return std::vector<std::string>{"three: why"}; },
    }));
    connect();
  }
  void TearDown() override {
    disconnect();
    server_.reset();
    MountedJournalTest::TearDown();
  }
  std::string socket() { return volume_.path() + "/" + journal::kControlSocket; }
  void connect() {
    client_ = must(UnixRpcClient::connect(*io_.lowLevelProvider, socket()));
    mount_ = std::make_unique<rpc::Mount::Client>(client_->bootstrap<rpc::Mount>());
  }
  void disconnect() {
    mount_.reset();
    client_.reset();
  }

  Touched file(const std::string& name) {
    UniqueFd made(::openat(backing_.get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    struct statx a;
    Touched t;
    EXPECT_EQ(identify(backing_.get(), name.c_str(), a, t.handle), 0);
    t.id = file_id(a);
    t.data = {0, ByteRange::kEndOfFile};
    return t;
  }
  void write(const std::string& name, const std::string& bytes) {
    const Touched touched[] = {file(name)};
    journal::Record intent = write_of(touched[0].id.inode);
    intent.file = touched[0].id;
    Recorder::Mutation m(*recorder_, worker_, intent, touched);
    UniqueFd fd(::openat(backing_.get(), name.c_str(), O_WRONLY));
    must(pwrite_full(fd.get(), bytes.data(), bytes.size(), 0, name));
    m.commit();
  }
  auto barrier(bool only_if_changed = false, uint32_t timeout_ms = 10'000) {
    auto request = mount_->barrierRequest();
    request.setOnlyIfChanged(only_if_changed);
    request.setTimeoutMs(timeout_ms);
    return request.send().wait(io_.waitScope);
  }
  auto pin(uint64_t since, bool only_if_changed = false) {
    auto request = mount_->barrierAndPinRequest();
    request.setSince(since);
    request.setOnlyIfChanged(only_if_changed);
    request.setTimeoutMs(10'000);
    return request.send().wait(io_.waitScope);
  }
  template <typename Capability>
  UniqueFd fd_of(Capability&& capability) {
    return UniqueFd(::dup(capability.getFd().wait(io_.waitScope).orDefault(-1)));
  }

  // Behind pointers, since a test's destructor must not throw and KJ's may.
  std::unique_ptr<kj::AsyncIoContext> io_owner_ =
      std::make_unique<kj::AsyncIoContext>(kj::setupAsyncIo());
  kj::AsyncIoContext& io_ = *io_owner_;
  std::function<Result<void>()> flush_ = [] { return Result<void>(); };
  std::unique_ptr<ControlServer> server_;
  std::unique_ptr<UnixRpcClient> client_;
  std::unique_ptr<rpc::Mount::Client> mount_;
};

TEST_F(Control, OnlyTheOwnerMayConnect) {
  struct stat st;
  ASSERT_EQ(::stat(socket().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode, mode_t(S_IFSOCK | 0600));
}

TEST_F(Control, InfoSaysWhatIsMounted) {
  write("a", "x");
  auto response = mount_->infoRequest().send().wait(io_.waitScope);
  auto info = response.getInfo();
  EXPECT_STREQ(info.getMountpoint().cStr(), "/mnt/data");
  EXPECT_EQ(std::string(info.getJournal().cStr()), volume_.path());
  EXPECT_EQ(info.getPid(), uint32_t(::getpid()));
  EXPECT_EQ(info.getOpenEpoch(), 1u);
  EXPECT_EQ(info.getRecordsInOpenEpoch(), 1u);
  EXPECT_EQ(info.getFeatures().size(), 2u);
  EXPECT_STREQ(info.getMissing()[0].cStr(), "three: why");
}

TEST_F(Control, BackingDirectoryComesAsDescriptor) {
  write("a", "x");
  auto response = mount_->backingRequest().send().wait(io_.waitScope);
  UniqueFd fd = fd_of(response.getDirectory());
  ASSERT_TRUE(fd);
  EXPECT_EQ(::faccessat(fd.get(), "a", F_OK, 0), 0);
}

TEST_F(Control, BarrierFlushesMappedPagesIntoTheEpoch) {
  flush_ = [this] {
    write("mapped", "page");
    return Result<void>();
  };
  auto response = barrier(true);
  EXPECT_FALSE(response.hasFailure());
  EXPECT_EQ(response.getEpoch(), 1u);
  EXPECT_NE(response.getBarrierTimeNs(), 0u);
  EXPECT_EQ(must(journal::read_last_epoch(volume_.dir()))->records, 1u);
}

TEST_F(Control, BarrierOnlyIfChanged) {
  EXPECT_EQ(barrier().getEpoch(), 1u);
  EXPECT_EQ(barrier(true).getEpoch(), 1u);
  write("a", "x");
  EXPECT_EQ(barrier(true).getEpoch(), 2u);
}

TEST_F(Control, ALabelIsOfAnEpochOfItsOwn) {
  auto barrier_called = [&](const std::string& label) {
    auto request = mount_->barrierRequest();
    request.setOnlyIfChanged(true);
    request.setTimeoutMs(10'000);
    request.setLabel(label);
    return request.send().wait(io_.waitScope);
  };
  EXPECT_EQ(barrier_called("first").getEpoch(), 1u);
  EXPECT_EQ(barrier_called("second").getEpoch(), 2u);
  EXPECT_EQ(barrier_called("").getEpoch(), 2u);
  const auto epochs = must(journal::read_epochs(volume_.dir()));
  EXPECT_EQ(must(journal::read_label(volume_.dir(), epochs[0])), "first");
  EXPECT_EQ(must(journal::read_label(volume_.dir(), epochs[1])), "second");

  auto refused = barrier_called("a\nb");
  EXPECT_EQ(refused.getFailure().getStatus(), uint8_t(ExitStatus::kUsage));
  EXPECT_EQ(must(journal::read_epochs(volume_.dir())).size(), 2u)
      << "refused before anything is sealed";

  // Sealed, but not labelled: both are told.
  std::filesystem::remove_all(volume_.path() + "/labels");
  write_file(volume_.path() + "/labels", "in the way");
  auto partial = barrier_called("third");
  EXPECT_EQ(partial.getEpoch(), 3u);
  EXPECT_EQ(partial.getFailure().getStatus(), uint8_t(ExitStatus::kPartial));
}

TEST_F(Control, AFailureIsAnAnswer) {
  flush_ = []() -> Result<void> { return fail("flush mapped pages", EIO); };
  auto response = barrier();
  ASSERT_TRUE(response.hasFailure());
  EXPECT_STREQ(response.getFailure().getMessage().cStr(), "flush mapped pages: Input/output error");
  EXPECT_EQ(response.getFailure().getStatus(), 1u);
}

TEST_F(Control, ABarrierThatCannotDrainTimesOut) {
  const Touched touched[] = {file("a")};
  journal::Record intent = write_of(touched[0].id.inode);
  Recorder::Mutation stuck(*recorder_, worker_, intent, touched);
  auto response = barrier(false, 100);
  ASSERT_TRUE(response.hasFailure());
  EXPECT_EQ(response.getFailure().getStatus(), uint8_t(ExitStatus::kTimedOut));
  auto info = mount_->infoRequest().send().wait(io_.waitScope);
  ASSERT_EQ(info.getInfo().getLongPauses().size(), 1u);
  auto pause = info.getInfo().getLongPauses()[0];
  EXPECT_TRUE(pause.getCalledOff());
  EXPECT_EQ(std::string(pause.getWaitedFor()),
            fmt::format("write of inode {} by pid 0", touched[0].id.inode));
  EXPECT_GE(pause.getDrainNs(), 50'000'000u);
  EXPECT_EQ(pause.getPauseNs(), info.getInfo().getLastBarrierPauseNs());
}

TEST_F(Control, OtherCallsAreAnsweredDuringABarrier) {
  std::atomic<bool> flushing{false}, go_on{false};
  flush_ = [&] {
    flushing = true;
    while (!go_on) std::this_thread::sleep_for(1ms);
    return Result<void>();
  };
  auto slow = mount_->barrierRequest();
  slow.setTimeoutMs(10'000);
  auto pending = slow.send();
  auto info = mount_->infoRequest().send().wait(io_.waitScope);
  while (!flushing) std::this_thread::sleep_for(1ms);
  info = mount_->infoRequest().send().wait(io_.waitScope);
  EXPECT_EQ(info.getInfo().getOpenEpoch(), 1u);
  go_on = true;
  EXPECT_EQ(pending.wait(io_.waitScope).getEpoch(), 1u);
}

TEST_F(Control, APinKeepsWhatTheEpochHeld) {
  write("a", "before");
  auto response = pin(0);
  ASSERT_FALSE(response.hasFailure()) << response.getFailure().getMessage().cStr();
  EXPECT_EQ(response.getEpoch(), 1u);
  UniqueFd log = fd_of(response.getPin());
  ASSERT_TRUE(log);
  auto reader = must(journal::PreImageReader::open(std::move(log)));
  write("a", "AFTER!");
  must(reader->refresh());
  char bytes[6];
  must(reader->overlay(file("a").id, 0, bytes, sizeof bytes));
  EXPECT_EQ(std::string(bytes, sizeof bytes), "before");
}

TEST_F(Control, NothingNewIsNothingToPin) {
  write("a", "x");
  ASSERT_EQ(barrier().getEpoch(), 1u);
  auto response = pin(1, true);
  EXPECT_EQ(response.getEpoch(), 1u);
  EXPECT_FALSE(response.hasPin());
  // Sealed already, and wanted still: pinned without another seal.
  response = pin(0, true);
  EXPECT_EQ(response.getEpoch(), 1u);
  EXPECT_TRUE(response.hasPin());
}

// What is sealed, and in no manifest, is news all the same.
TEST_F(Control, AnEpochThatCouldNotBePublishedIsNotNothing) {
  write("a", "x");
  ASSERT_EQ(barrier().getEpoch(), 1u);
  write("a", "y");
  storage_.failing_label = "manifest-append";
  EXPECT_TRUE(barrier().hasFailure());
  EXPECT_TRUE(pin(1, true).hasFailure());
  storage_.failing_label.clear();
  auto response = pin(1, true);
  EXPECT_EQ(response.getEpoch(), 2u);
  EXPECT_TRUE(response.hasPin());
}

TEST_F(Control, ACursorFromTheFutureIsRefused) {
  auto response = pin(7);
  ASSERT_TRUE(response.hasFailure());
  EXPECT_FALSE(response.hasPin());
}

TEST_F(Control, APinSaysWhetherItIsHeld) {
  write("a", "before");
  auto response = pin(0);
  auto held = response.getPin();
  held.confirmRequest().send().wait(io_.waitScope);
  auto reader = must(journal::PreImageReader::open(fd_of(held)));
  held.releaseRequest().send().wait(io_.waitScope);
  EXPECT_THROW(held.confirmRequest().send().ignoreResult().wait(io_.waitScope), kj::Exception);
  barrier();  // unpinning took its turn before
  EXPECT_TRUE(reader->given_up());
}

TEST_F(Control, APinGoesWithItsConnection) {
  write("a", "before");
  auto open_log = [&](bool release) {
    auto response = pin(0);
    UniqueFd log = fd_of(response.getPin());
    if (release) response.getPin().releaseRequest().send().wait(io_.waitScope);
    return log;
  };
  for (bool release : {true, false}) {
    UniqueFd log = open_log(release);
    if (!release) {
      disconnect();
      connect();
    }
    // Unpinning takes its turn among the jobs, before this barrier.
    for (int i = 0; i < 100; ++i) mount_->infoRequest().send().wait(io_.waitScope);
    barrier();
    struct stat before, after;
    ASSERT_EQ(::fstat(log.get(), &before), 0);
    write("a", "AFTER!");
    ASSERT_EQ(::fstat(log.get(), &after), 0);
    EXPECT_EQ(before.st_size, after.st_size);
  }
}

TEST_F(Control, CursorsAreTakenIn) {
  must(journal::write_cursor(storage_, volume_.dir(), "0123456789ab", {EpochId{0}}));
  mount_->cursorsChangedRequest().send().wait(io_.waitScope);
  write("a", "x");
  barrier();
  EXPECT_EQ(pins_->layers(), 1u);
  must(journal::write_cursor(storage_, volume_.dir(), "0123456789ab", {EpochId{1}}));
  mount_->cursorsChangedRequest().send().wait(io_.waitScope);
  EXPECT_EQ(pins_->layers(), 0u);
}

TEST_F(Control, EndsWhileACallerWaits) {
  std::atomic<bool> flushing{false};
  flush_ = [&] {
    flushing = true;
    std::this_thread::sleep_for(50ms);
    return Result<void>();
  };
  auto request = mount_->barrierAndPinRequest();
  request.setTimeoutMs(10'000);
  auto pending = request.send();
  mount_->infoRequest().send().wait(io_.waitScope);
  while (!flushing) std::this_thread::sleep_for(1ms);
  server_.reset();
  bool failed = pending.then([](auto&&) { return false; }, [](kj::Exception&&) { return true; })
                    .wait(io_.waitScope);
  EXPECT_TRUE(failed);
  EXPECT_FALSE(connect_unix(socket()));
}

}  // namespace
}  // namespace epochfs::fs
