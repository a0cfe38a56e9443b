#include "replicator/target/target.h"

#include <fmt/format.h>

#include <algorithm>

#include "replicator/target/apply/prepare.h"

namespace epochfs::replicator {
namespace {

using Kind = Refusal::Kind;

Steps& no_steps() {
  static Steps steps;  // stateless
  return steps;
}

std::array<char, 16> id_bytes(const std::string& id) {
  std::array<char, 16> out{};
  std::copy_n(id.begin(), std::min(id.size(), out.size()), out.begin());
  return out;
}

}  // namespace

Target::Target(Storage& storage, const TargetOptions& options, Steps& steps)
    : storage_(storage), options_(options), steps_(steps) {}

Target::~Target() = default;

Outcome<std::unique_ptr<Target>> Target::open(Storage& storage, const TargetOptions& options,
                                              Steps* steps) {
  std::unique_ptr<Target> t(new Target(storage, options, steps ? *steps : no_steps()));
  EPOCHFS_TRY(t->folders_,
              Folders::open(storage, options.directory, options.relationship, options.established));
  if (auto opened = t->open_index(); !opened) {
    const bool leave_nothing = t->folders_.stage_is_new;
    t.reset();
    if (leave_nothing) {
      [[maybe_unused]] auto removed = remove_stage_folder(options.directory, options.relationship);
    }
    return tl::unexpected(opened.error());
  }
  t->tree_ = std::make_unique<OldTree>(*t->index_, t->folders_);
  t->stage_ = std::make_unique<Stage>(
      storage, *t->index_, t->folders_, [raw = t.get()](FileId id, const IndexedNode& node) {
        return raw->tree_->is_intact(id, node, raw->index_->meta().source_root);
      });
  if (t->index_->meta().phase != ApplyPhase::kNone) {
    EPOCHFS_DO(t->apply());
    EPOCHFS_DO(t->tidy());
  } else {
    EPOCHFS_DO(t->stage_->sweep());
  }
  t->publish_state();
  return t;
}

Outcome<void> Target::open_index() {
  EPOCHFS_TRY(index_, Index::open(folders_.index.get(), options_.index_map_bytes));
  const bool is_new = index_->meta().relationship == std::array<char, 16>{};
  return is_new ? adopt() : recognize();
}

// The first time: the relationship takes possession of the directory.
Outcome<void> Target::adopt() {
  if (options_.established) {
    return refuse(Kind::kTargetLost,
                  "find what target directory " + options_.directory + " holds: its index is gone");
  }
  EPOCHFS_TRY(bool empty, folders_.root_is_empty());
  if (!empty && !options_.replace_contents) {
    return fail("use target directory " + options_.directory +
                ": it is not empty; empty it, or accept that its contents are replaced");
  }
  IndexMeta meta;
  meta.relationship = id_bytes(options_.relationship);
  meta.lineage = options_.lineage;
  meta.target_root = folders_.root_id;
  EPOCHFS_DO(index_->put_meta(meta));
  EPOCHFS_DO(index_->commit());
  return {};
}

Outcome<void> Target::recognize() {
  const IndexMeta& meta = index_->meta();
  if (meta.relationship != id_bytes(options_.relationship) || meta.lineage != options_.lineage) {
    return refuse(Kind::kTargetLost, "use target directory " + options_.directory +
                                         ": its stage belongs to another relationship");
  }
  if (meta.target_root != folders_.root_id) {
    return refuse(Kind::kTargetLost, "use target directory " + options_.directory +
                                         ": it is not the one that was accepted");
  }
  return {};
}

RecoveryPoint Target::state() const {
  Lock lock(mutex_);
  return state_;
}

StageCounters Target::counters() const {
  Lock lock(mutex_);
  return counters_;
}

void Target::publish_state() {
  const IndexMeta& meta = index_->meta();
  Lock lock(mutex_);
  state_ = {meta.cursor, meta.state_hash, meta.barrier_ns,
            meta.staging && meta.full ? meta.walk_since : 0};
  counters_ = stage_->counters();
}

// ---- a transfer ----

Outcome<void> Target::check_plan(const TransferPlan& plan) const {
  const IndexMeta& meta = index_->meta();
  if (plan.full) return {};
  if (meta.cursor == 0 || plan.base != meta.cursor) {
    return unknown_state(fmt::format("begin a transfer from epoch {}: the target holds epoch {}",
                                     plan.base, meta.cursor));
  }
  if (plan.root != meta.source_root) {
    return unknown_state("begin a transfer: the source directory is another one than before");
  }
  return {};
}

Outcome<void> Target::begin(const TransferPlan& plan) {
  transferring_ = false;
  if (stopped_) return fail("begin a transfer: another session has taken over");
  if (index_->failed()) {
    stage_->reset();
    EPOCHFS_DO(index_->roll_back());
  }
  EPOCHFS_DO(folders_.check_root());
  if (index_->meta().phase != ApplyPhase::kNone) EPOCHFS_DO(apply());
  EPOCHFS_DO(tidy());
  EPOCHFS_DO(check_plan(plan));
  IndexMeta meta = index_->meta();
  if (plan.full && meta.source_root && meta.source_root != plan.root) {
    // The index has identities of another source directory, which mean nothing now.
    EPOCHFS_DO(stage_->discard());
    EPOCHFS_DO(index_->clear_tree());
    meta = index_->meta();
    meta.cursor = meta.state_hash = meta.barrier_ns = 0;
    meta.source_root = {};
    EPOCHFS_DO(index_->put_meta(meta));
    EPOCHFS_DO(index_->commit());
  }
  tree_->clear();
  EPOCHFS_DO(stage_->begin(plan));
  plan_ = plan;
  transferring_ = true;
  publish_state();
  return {};
}

Stage* Target::stage() {
  return transferring_ && !stopped_ && !index_->failed() ? stage_.get() : nullptr;
}

Outcome<void> Target::commit(const TransferPlan& plan) {
  if (!transferring_) return fail("commit a transfer: none was begun");
  if (plan.full != plan_.full || plan.base != plan_.base || plan.root != plan_.root ||
      plan.walk_since != plan_.walk_since || (!plan.full && plan.epoch != plan_.epoch)) {
    return fail("commit a transfer: it is another one than was begun");
  }
  if (plan.epoch == 0) return fail("commit a transfer: it has no epoch");
  transferring_ = false;
  EPOCHFS_DO(folders_.check_root());
  if (!stage_->unknown().empty()) return unknown_state(stage_->unknown());
  EPOCHFS_TRY(bool pristine, check_pristine());
  EPOCHFS_DO(stage_->finish());
  EPOCHFS_DO(steps_.at("commit: finished"));
  EPOCHFS_DO(stage_->sync());
  EPOCHFS_DO(steps_.at("commit: staged files are durable"));
  EPOCHFS_DO(prepare(plan.root));
  EPOCHFS_DO(mark(plan, pristine));
  return apply();
}

// Before the first epoch: checks that the directory may be written. True: it is empty.
Outcome<bool> Target::check_pristine() const {
  if (index_->meta().owned) return false;
  EPOCHFS_TRY(bool empty, folders_.root_is_empty());
  if (!empty && !options_.replace_contents) {
    return fail("use target directory " + options_.directory +
                ": something was put into it meanwhile; empty it");
  }
  return empty;
}

Outcome<void> Target::prepare(FileId root) {
  EPOCHFS_TRY(size_t held, index_->count_names());
  EPOCHFS_TRY(size_t staged, index_->count_staged_names());
  EPOCHFS_DO(index_->make_room(2 * (held + staged)));
  tree_->clear();
  View view(*index_, root);
  return Prepare(*index_, view, *tree_).run();
}

// The point of no return.
Outcome<void> Target::mark(const TransferPlan& plan, bool pristine) {
  IndexMeta meta = index_->meta();
  meta.phase = ApplyPhase::kCommitted;
  meta.mark_epoch = plan.epoch;
  meta.mark_hash = plan.state_hash;
  meta.mark_barrier_ns = plan.barrier_ns;
  meta.mark_root = plan.root;
  meta.pristine = pristine;
  meta.owned = true;
  EPOCHFS_DO(index_->put_meta(meta));
  EPOCHFS_DO(steps_.at("commit: before the mark"));
  EPOCHFS_DO(index_->commit());
  EPOCHFS_DO(steps_.at("commit: marked"));
  return {};
}

Outcome<void> Target::apply() {
  EPOCHFS_DO(folders_.check_root());
  auto done = Apply(storage_, *index_, folders_, steps_).run();
  if (!done && done.error().kind == Kind::kUnknownState) EPOCHFS_DO(abandon());
  if (done || done.error().kind == Kind::kUnknownState) {
    stage_->reset();
    untidy_ = true;
    publish_state();
  }
  return done;
}

// The epoch can never be applied: somebody else removed what it builds on. Until a full transfer
// has reconciled the directory, it holds no epoch.
Result<void> Target::abandon() {
  EPOCHFS_DO(index_->clear_stage());
  IndexMeta meta = index_->meta();
  meta.phase = ApplyPhase::kNone;
  meta.cursor = meta.state_hash = meta.barrier_ns = 0;
  meta.staging = meta.full = false;
  meta.walk_since = 0;
  EPOCHFS_DO(index_->put_meta(meta));
  return index_->commit();
}

Result<void> Target::checkpoint() {
  if (index_->failed()) return {};
  EPOCHFS_DO(stage_->checkpoint());
  publish_state();
  return {};
}

Outcome<void> Target::tidy() {
  if (!untidy_) return {};
  EPOCHFS_DO(stage_->sweep());
  untidy_ = false;
  return {};
}

Outcome<void> remove_stage(Storage& storage, TargetOptions options) {
  options.established = true;  // create nothing
  {
    auto target = Target::open(storage, options);
    if (!target && target.error().kind == Kind::kBusy) return tl::unexpected(target.error());
  }
  return remove_stage_folder(options.directory, options.relationship);
}

}  // namespace epochfs::replicator
