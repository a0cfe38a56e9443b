// The target stopped at every call that it can be stopped at: it holds exactly one epoch
// in the end.
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/unit/replicator/target/apply_support.h"
#include "tests/unit/replicator/target/operations.h"

namespace epochfs::testing {
namespace {

struct Crash {};

// Stops the target at the n-th call that it can be stopped at.
class Crasher : public LazyStorage, public replicator::Steps {
 public:
  size_t calls = 0;
  size_t crash_at = SIZE_MAX;
  std::string where;

  Result<void> at(const char* label) override { return call(label); }

 protected:
  Result<void> call(const char* label) override {
    if (++calls < crash_at) return {};
    where = label;
    throw Crash();
  }
};

class CrashTest : public ApplyTest {
 protected:
  Storage& storage() override { return crasher_; }

  // Ships spec as epoch 2, stopping at call n, and once more at call `again`
  // while it is finished. False: it ran through without a stop at n.
  bool ship_with_crash(const TransferSpec& spec, size_t n, size_t again) {
    crasher_.calls = 0;
    crasher_.crash_at = n;
    bool crashed = false;
    try {
      ASSERT_DONE_OR_FALSE(transfer(*target_, spec));
    } catch (const Crash&) {
      crashed = true;
    }
    const std::string where = crasher_.where;
    for (size_t at : {again, SIZE_MAX}) {
      crasher_.calls = 0;
      crasher_.crash_at = at;
      try {
        auto opened = open(&crasher_);
        EXPECT_TRUE(opened.has_value()) << where << ": " << reason(opened);
        if (!opened) return false;
        break;
      } catch (const Crash&) {
      }
    }
    crasher_.crash_at = SIZE_MAX;
    if (target_->state().cursor == 1) {
      EXPECT_EQ(compare(shipped_, path()), "") << "before the mark, stopped at " << where;
      auto done = transfer(*target_, spec);
      EXPECT_TRUE(done.has_value()) << reason(done);
    }
    EXPECT_EQ(compare(now_, path()), "") << "stopped at " << where << ", call " << n;
    EXPECT_EQ(target_->state().cursor, 2u);
    EXPECT_TRUE(target_->tidy().has_value());
    for (const char* folder : {"/incoming", "/extents", "/limbo"}) {
      EXPECT_EQ(entries(stage() + folder), 0u) << folder << " after " << where;
    }
    return crashed;
  }

  static bool ASSERT_DONE_OR_FALSE(const replicator::Outcome<Sent>& o) {
    EXPECT_TRUE(o.has_value()) << reason(o);
    return o.has_value();
  }

  // A directory that holds shipped_ as epoch 1.
  void prepare() {
    target_.reset();
    std::filesystem::remove_all(path());
    std::filesystem::remove_all(stage());
    std::filesystem::create_directory(path());
    options_.established = false;
    crasher_.crash_at = SIZE_MAX;
    auto opened = open(&crasher_);
    ASSERT_DONE(opened);
    TransferSpec spec = everything(shipped_);
    plan(spec, 0, 1);
    ASSERT_DONE(transfer(*target_, spec));
    ASSERT_DONE(target_->tidy());
  }

  void enumerate(const TransferSpec& spec, Random& random) {
    for (size_t n = 1; !HasFailure(); ++n) {
      prepare();
      if (HasFatalFailure()) return;
      if (!ship_with_crash(spec, n, random.one_in(2) ? 1 + random.below(30) : SIZE_MAX)) {
        std::printf("%zu places to stop at\n", n - 1);
        return;
      }
    }
  }

  Crasher crasher_;
};

TEST_F(CrashTest, EveryStopOfADeltaEndsInOneEpoch) {
  Random random;
  Operations operations(shipped_, random, 3000);
  operations.run(80);
  now_ = shipped_;
  Operations(now_, random, 3000).run(40);
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  enumerate(spec, random);
}

TEST_F(CrashTest, EveryStopOfAFullTransferEndsInOneEpoch) {
  Random random;
  Operations operations(shipped_, random, 3000);
  operations.run(80);
  now_ = shipped_;
  Operations(now_, random, 3000).run(40);
  TransferSpec spec = everything(now_);
  plan(spec, 1, 2);
  enumerate(spec, random);
}

TEST_F(CrashTest, EveryStopOfSwapsAndReuseEndsInOneEpoch) {
  Random random;
  TreeOracle& m = shipped_;
  FileId a = m.create(m.root, "a", 0040755), b = m.create(m.root, "b", 0040755);
  FileId f = m.create(a, "f", 0100644);
  m.write(f, 0, "in a");
  m.write(m.create(b, "f", 0100644), 0, "in b");
  m.link(f, m.root, "f");
  m.create(m.create(m.root, "gone", 0040755), "x", 0100644);
  m.write(m.create(m.root, "log", 0100644), 0, "first log");
  now_ = m;
  now_.exchange(now_.root, "a", now_.root, "b");
  now_.exchange(a, "f", b, "f");
  now_.remove_tree(now_.root, "gone");
  now_.create(now_.create(now_.root, "gone", 0040755), "y", 0100644);
  now_.rename(now_.root, "log", now_.root, "log.1");
  now_.write(now_.create(now_.root, "log", 0100644), 0, "second log");
  now_.rename(now_.root, "f", b, "g");
  TransferSpec spec = changes(shipped_, now_);
  plan(spec, 1, 2);
  enumerate(spec, random);
}

TEST_F(CrashTest, EveryStopOfReplacingContents) {
  now_.write(now_.create(now_.root, "same", 0100644), 0, "new");
  now_.create(now_.create(now_.root, "dir", 0040755), "new", 0100644);
  TransferSpec spec = everything(now_);
  plan(spec, 0, 1);
  options_.replace_contents = true;
  for (size_t n = 1;; ++n) {
    target_.reset();
    std::filesystem::remove_all(path());
    std::filesystem::remove_all(stage());
    std::filesystem::create_directories(path() + "/dir/old");
    write_file(path() + "/same", "old");
    options_.established = false;
    crasher_.crash_at = SIZE_MAX;
    ASSERT_DONE(open(&crasher_));
    crasher_.calls = 0;
    crasher_.crash_at = n;
    bool crashed = false;
    try {
      ASSERT_DONE(transfer(*target_, spec));
    } catch (const Crash&) {
      crashed = true;
    }
    crasher_.crash_at = SIZE_MAX;
    ASSERT_DONE(open(&crasher_));
    if (target_->state().cursor == 0) {
      ASSERT_TRUE(exists("dir/old"));  // not before the mark
      ASSERT_DONE(transfer(*target_, spec));
    }
    ASSERT_EQ(compare(now_, path()), "") << "stopped at " << crasher_.where;
    if (!crashed) break;
  }
}

}  // namespace
}  // namespace epochfs::testing
