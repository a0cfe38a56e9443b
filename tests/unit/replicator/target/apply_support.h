// ApplyTest: the fixture of a target directory whose source is a TreeOracle.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/temporary_directory.h"
#include "tests/unit/replicator/target/target_support.h"

namespace epochfs::testing {

class ApplyTest : public ::testing::Test {
 protected:
  ApplyTest() { std::filesystem::create_directory(path()); }

  std::string path() const { return folder_ / "target"; }

  replicator::Outcome<void> open(replicator::Steps* steps = nullptr) {
    target_.reset();
    EPOCHFS_TRY(target_, replicator::Target::open(storage(), options_, steps));
    options_.established = true;
    return {};
  }
  virtual Storage& storage() { return storage_; }

  void plan(TransferSpec& spec, uint64_t base, uint64_t epoch) {
    spec.plan.base = base;
    spec.plan.epoch = epoch;
    spec.plan.state_hash = epoch * 31;
    spec.plan.barrier_ns = epoch * 1'000'000'007;
    spec.plan.walk_since = spec.plan.full ? epoch : 0;
  }

  // Ships the model as it is now, as the next epoch.
  void ship(TransferSpec spec, const SendOptions& options = {}) {
    plan(spec, epoch_, epoch_ + 1);
    ASSERT_DONE(transfer(*target_, spec, options));
    ++epoch_;
    shipped_ = now_;
    expect_epoch(now_, epoch_);
    ASSERT_DONE(target_->tidy());
  }
  void ship_changes(const SendOptions& options = {}) { ship(changes(shipped_, now_), options); }
  void ship_everything(const SendOptions& options = {}) { ship(everything(now_), options); }

  void expect_epoch(const TreeOracle& model, uint64_t epoch) {
    EXPECT_EQ(target_->state().cursor, epoch);
    EXPECT_EQ(target_->state().state_hash, epoch * 31);
    EXPECT_EQ(target_->state().barrier_ns, epoch * 1'000'000'007);
    EXPECT_EQ(compare(model, path()), "");
  }
  bool exists(const std::string& name) {
    return ::access((path() + "/" + name).c_str(), F_OK) == 0;
  }
  struct stat stat_of(const std::string& name) {
    struct stat s {};
    ::lstat((path() + "/" + name).c_str(), &s);
    return s;
  }
  std::string stage() const { return folder_ / ".epochfs-" + kRelationship; }
  size_t entries(const std::string& folder) {
    size_t n = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(folder)) ++n;
    return n;
  }

  TemporaryDirectory folder_;
  LazyStorage storage_;
  replicator::TargetOptions options_ = target_options(folder_);
  std::unique_ptr<replicator::Target> target_;
  TreeOracle now_, shipped_;
  uint64_t epoch_ = 0;
};

}  // namespace epochfs::testing
