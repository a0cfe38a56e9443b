// Do several relationships of one volume, each at its own speed, keep out of each other's
// way? Is every target at one epoch whenever a test looks? When the room for pre-images runs
// out, is the epoch that needs them given up for a newer one, without an error?
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <atomic>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "schema/control.capnp.h"
#include "tests/e2e/chains.h"
#include "tests/e2e/mutator.h"
#include "tests/e2e/operation.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

// A host whose daemon gets to run for a short while now and then.
class Limping {
 public:
  explicit Limping(Host& host) : host_(host), thread_([this] { run(); }) {}
  ~Limping() { stop(); }

  // It runs as it can again.
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    host_.thaw_daemon();
  }

 private:
  void run() {
    while (!stop_) {
      host_.freeze_daemon();
      std::this_thread::sleep_for(Milliseconds(100));
      host_.thaw_daemon();
      std::this_thread::sleep_for(Milliseconds(10));
    }
  }

  Host& host_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

rpc::JournalSpace::Reader read_space(const Host& host, const std::string& directory,
                                     capnp::MallocMessageBuilder& message) {
  const Outcome outcome = host.epochfs({"status", directory, "--json"});
  auto info = message.initRoot<rpc::MountInfo>();
  capnp::JsonCodec().decode(kj::ArrayPtr<const char>(outcome.out.data(), outcome.out.size()), info);
  return info.asReader().getSpace();
}
uint64_t checkpoints_of(const Host& host, const std::string& directory) {
  capnp::MallocMessageBuilder message;
  return read_space(host, directory, message).getCheckpoints();
}
uint64_t pre_images_of(const Host& host, const std::string& directory) {
  capnp::MallocMessageBuilder message;
  return read_space(host, directory, message).getPreImageBytes();
}

// One volume, and three copies of it on two hosts: one as fast as can be, one on a host that
// limps, one whose relationship is off most of the time.
class SeveralTest : public TwoHosts, public ::testing::WithParamInterface<Arguments> {
 protected:
  void SetUp() override {
    TwoHosts::SetUp();
    if (IsSkipped()) return;
    c_ = std::make_unique<Host>("c");
    slow_ = std::make_unique<Replica>(a(), data(), *c_, c_->make_directory("copy"));
    seldom_ = std::make_unique<Replica>(a(), data(), b(), b().make_directory("seldom"));
    make_directory(data() + "/chains");
    make_directory(data() + "/tree");
    random_ = std::make_unique<Random>();
    writers_ = std::make_unique<ChainWriters>(data() + "/chains", *random_, 2);
    mutator_ = std::make_unique<Mutator>(data() + "/tree", *random_);
  }
  void TearDown() override {
    writers_.reset();
    limping_.reset();
    TwoHosts::TearDown();
  }

  void establish_all() {
    start_daemons();
    c_->start_daemon();
    a().mount(data(), GetParam());
    for (Replica* r : all()) r->establish();
    for (Replica* r : all()) ASSERT_TRUE(r->becomes_equal());
    a().must({"relationship", "disable", seldom_->id()});
    limping_ = std::make_unique<Limping>(*c_);
  }
  std::vector<Replica*> all() { return {&replica(), slow_.get(), seldom_.get()}; }

  // Changes of all kinds; with a quota, more of them than the journal keeps as records.
  void change() {
    mutator_->run(100);
    writers_->let_them_write(300 + random_->below(500));
    if (GetParam().empty()) return;
    UniqueFd fd(::open((data() + "/busy").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    for (int i = 0; i < 12'000; ++i) {
      ASSERT_EQ(::pwrite(fd.get(), &i, sizeof i, off_t(random_->below(1000) * 4096)), 4);
    }
  }
  void change_and_ship(Replica& r) {
    change();
    a().must({"relationship", "enable", r.id()});
    r.wait_for_epoch(r.barrier());
  }

  // Wherever it stands now. It may be many epochs behind.
  void look(Replica& r) {
    const uint64_t at_least = r.status().recovery_epoch;
    r.expect_at_rest([&] {
      writers_->stop();
      return writers_->not_a_cut(r.target_directory() + "/chains", {});
    });
    EXPECT_GE(r.status().recovery_epoch, at_least);
    writers_->start();
  }
  // It is applied in full, of a host that does not limp meanwhile.
  void look_at_slow() {
    limping_.reset();
    look(*slow_);
    limping_ = std::make_unique<Limping>(*c_);
  }
  void expect_all_equal() {
    writers_->stop();
    limping_.reset();
    a().must({"relationship", "enable", seldom_->id()});
    for (Replica* r : all()) EXPECT_TRUE(r->becomes_equal()) << r->target_directory();
  }

  std::unique_ptr<Host> c_;
  std::unique_ptr<Replica> slow_, seldom_;
  std::unique_ptr<Random> random_;
  std::unique_ptr<ChainWriters> writers_;
  std::unique_ptr<Mutator> mutator_;
  std::unique_ptr<Limping> limping_;
};

INSTANTIATE_TEST_SUITE_P(Told, SeveralTest,
                         ::testing::Values(Arguments{}, Arguments{"--journal-quota", "4M"}),
                         [](const auto& info) {
                           return std::string(info.param.empty() ? "ByRecords" : "ByCheckpoints");
                         });

TEST_P(SeveralTest, EachIsAtAnEpochOfItsOwn) {
  establish_all();
  writers_->start();
  uint64_t most_checkpoints = 0;
  bool apart = false;
  for (int round = 0; round < 6 && !HasFailure(); ++round) {
    change();
    replica().wait_for_epoch(replica().barrier());
    apart |= seldom_->status().recovery_epoch < replica().status().recovery_epoch;
    most_checkpoints = std::max(most_checkpoints, checkpoints_of(a(), data()));
    look(replica());
    look_at_slow();
    if (round % 2 == 1) {
      change_and_ship(*seldom_);
      look(*seldom_);
      a().must({"relationship", "disable", seldom_->id()});
    }
  }
  EXPECT_TRUE(apart);
  EXPECT_GE(most_checkpoints, GetParam().empty() ? 0u : 2u);
  expect_all_equal();
}

TEST_P(SeveralTest, AndTheMountIsKilledInBetween) {
  establish_all();
  writers_->start();
  for (int round = 0; round < 4 && !HasFailure(); ++round) {
    change();
    if (round == 2) a().must({"relationship", "enable", seldom_->id()});
    writers_->let_them_write(200);
    a().kill_mount(data());
    a().mount(data(), GetParam());
    writers_->stop_and_resume();
    writers_->start();
    change();
    look(replica());
    look_at_slow();
    if (round == 2) look(*seldom_);
  }
  expect_all_equal();
}

// A file in pages, each of which holds the round that wrote it last, in ascending order.
class MergeForwardTest : public TwoHosts {
 protected:
  static constexpr uint64_t kPage = 4096, kPages = 60'000, kQuota = 8 << 20;

  std::string file() const { return data() + "/file"; }
  // From the last page to the first, so that what a transfer comes to last goes first.
  bool write_round(uint64_t round, const std::atomic<bool>& stop = false) const {
    return write_pages(0, kPages, round, stop);
  }
  bool write_pages(uint64_t first, uint64_t end, uint64_t round,
                   const std::atomic<bool>& stop = false) const {
    UniqueFd fd(::open(file().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    for (uint64_t i = end; i-- > first && !stop;) {
      std::string page = bytes_of(2 * i + 1, kPage);  // not to be compressed
      std::memcpy(page.data(), &round, sizeof round);
      if (::pwrite(fd.get(), page.data(), page.size(), off_t(i * kPage)) != ssize_t(kPage)) {
        return false;
      }
    }
    return true;
  }
  // Of a file of which one round, or two that follow, are there: the newer behind.
  std::string why_no_epoch() const {
    UniqueFd fd(::open((copy() + "/file").c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return errno == ENOENT ? "" : "cannot be opened";
    uint64_t first = 0, last = 0;
    for (uint64_t i = 0; i < kPages; ++i) {
      uint64_t round = 0;
      if (::pread(fd.get(), &round, sizeof round, off_t(i * kPage)) != sizeof round) {
        return fmt::format("page {} is missing", i);
      }
      if (i == 0) first = last = round;
      if (round < last || round > first + 1) {
        return fmt::format("page {} is of round {}, the one before it of {}, the first of {}", i,
                           round, last, first);
      }
      last = round;
    }
    return "";
  }

  void establish_with_quota() {
    start_daemons();
    a().mount(data(), {"--journal-quota", "8M"});
    replica().establish();
    ASSERT_TRUE(replica().becomes_equal());
  }

  // Writes round after round, from the second on, until stop() or its end.
  class Rounds {
   public:
    explicit Rounds(const MergeForwardTest& test) : test_(test) {}
    ~Rounds() { stop(); }
    void start() {
      thread_ = std::thread([this] {
        for (uint64_t round = 2; !stop_; ++round) test_.write_round(round, stop_);
      });
    }
    void stop() {
      stop_ = true;
      if (thread_.joinable()) thread_.join();
    }

   private:
    const MergeForwardTest& test_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
  };

  // What status has shown, at every look while it was watched.
  void watch(const std::function<void()>& during) {
    std::atomic<bool> stop{false};
    std::thread watcher([&] {
      while (!stop) {
        const ReplicaStatus s = replica().status();
        states_[s.state] = s.detail;
        if (s.detail.find("began again with a newer epoch") != std::string::npos)
          begun_again_ = true;
        std::this_thread::sleep_for(Milliseconds(50));
      }
    });
    try {
      during();
    } catch (...) {
      stop = true;
      watcher.join();
      throw;
    }
    stop = true;
    watcher.join();
  }
  void expect_no_noise() {
    for (const auto& [state, detail] : states_) {
      const std::set<std::string> quiet{"Off", "Up to Date", "Replicating", "Initial Copy"};
      EXPECT_TRUE(quiet.count(state)) << state << ": " << detail;
    }
  }

  std::map<std::string, std::string> states_;  // and their detail
  std::atomic<bool> begun_again_{false};
};

// What a transfer has read, nobody needs any more, however long the rest takes.
TEST_F(MergeForwardTest, NothingIsSavedOfWhatIsOnItsWay) {
  establish({"--interval", "86400"});
  ASSERT_TRUE(write_round(1));
  replica().wait_until_idle();
  ASSERT_TRUE(write_round(2));
  const uint64_t sent = replica().status().bytes_sent;
  stop_in_a_transfer();
  eventually("it waits", [&] { return replica().status().bytes_sent > sent + (12 << 20); });
  constexpr uint64_t kSome = 1000;
  ASSERT_TRUE(write_pages(0, kSome, 3));
  EXPECT_LT(pre_images_of(a(), data()), kPage * kSome / 4);
  ASSERT_TRUE(write_pages(kPages - kSome, kPages, 3));
  EXPECT_GE(pre_images_of(a(), data()), kPage * kSome);
  b().thaw_daemon();
  eventually("it ends", [&] { return replica().status().epochs_sent >= 3; });
  replica().expect_at_rest([&] { return why_no_epoch(); });
  EXPECT_TRUE(replica().becomes_equal());
}

TEST_F(MergeForwardTest, AnEpochWhosePreImagesFindNoRoomIsGivenUpForANewerOne) {
  establish_with_quota();
  ASSERT_TRUE(write_round(1));
  ASSERT_TRUE(replica().becomes_equal());
  a().must({"relationship", "disable", replica().id()});
  replica().await_state("Off");
  ASSERT_TRUE(write_round(2));
  watch([&] {
    {
      Limping limping(b());
      a().must({"relationship", "enable", replica().id()});
      eventually("it is under way", [&] { return replica().status().percent >= 0; });
      // Many times the quota.
      ASSERT_TRUE(write_round(3));
      eventually("the pre-images are gone", [&] { return pre_images_of(a(), data()) < kQuota; });
      eventually(
          "it has begun again", [&] { return begun_again_.load(); }, Host::kPatience);
    }
    EXPECT_TRUE(replica().becomes_equal(Milliseconds(20'000)));
  });
  expect_no_noise();
  EXPECT_EQ(replica().status().detail, "");
}

// An application that overwrites faster than the target takes it.
TEST_F(MergeForwardTest, AgainAndAgainWithoutSpinningUntilThereIsTime) {
  establish_with_quota();
  ASSERT_TRUE(write_round(1));
  ASSERT_TRUE(replica().becomes_equal());
  Rounds writer(*this);
  watch([&] {
    Limping limping(b());
    writer.start();
    eventually(
        "it has begun again", [&] { return begun_again_.load(); }, Host::kPatience);
    const uint64_t epoch = replica().status().sealed_epoch;
    for (int look = 0; look < 3; ++look) {
      std::this_thread::sleep_for(Milliseconds(1'500));
      replica().expect_at_rest([&] { return why_no_epoch(); });
    }
    EXPECT_LT(replica().status().sealed_epoch - epoch, 200u);
    limping.stop();
    writer.stop();
    EXPECT_TRUE(replica().becomes_equal(Milliseconds(30'000)));
  });
  expect_no_noise();
}

TEST_F(MergeForwardTest, InTheInitialCopyToo) {
  write_round(1);
  start_daemons();
  a().mount(data(), {"--journal-quota", "32M"});
  Rounds writer(*this);
  replica().establish();
  watch([&] {
    Limping limping(b());
    writer.start();
    std::this_thread::sleep_for(Milliseconds(8'000));
    limping.stop();
    writer.stop();
    EXPECT_TRUE(replica().becomes_equal(Milliseconds(60'000)));
  });
  EXPECT_FALSE(states_.count("Failed"));
}

}  // namespace
}  // namespace epochfs::testing
