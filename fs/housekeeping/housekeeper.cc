#include "fs/housekeeping/housekeeper.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "journal/base/clock.h"
#include "journal/base/unix.h"
#include "journal/log/reader.h"

namespace epochfs::fs {
namespace {

using namespace std::chrono_literals;

constexpr auto kSealTimeout = 5s;
constexpr uint64_t kWorthTellingLess = 4;  // if checkpoints fill this part of a segment
constexpr auto kLookAgainAfter = 1s;       // while room is or was short: others may free some

}  // namespace

const char* pressure_name(Pressure pressure) {
  switch (pressure) {
    case Pressure::kNone: return "none";
    case Pressure::kNear: return "near its quota";
    case Pressure::kExtents: return "coarser extents";
    case Pressure::kFiles: return "whole files";
    case Pressure::kSubtrees: return "subtrees";
    case Pressure::kTree: return "whole tree";
  }
  return "?";
}

Housekeeper::Housekeeper(journal::Volume& volume, int backing_dir, journal::Journal& journal,
                         Recorder& recorder, Pins& pins, journal::Checkpoints& checkpoints,
                         Settler& settler, const HousekeepingOptions& options)
    : volume_(volume),
      backing_dir_(backing_dir),
      journal_(journal),
      recorder_(recorder),
      pins_(pins),
      checkpoints_(checkpoints),
      settler_(settler),
      options_(options),
      may_block_(options.when_full == WhenFull::kBlock) {
  status_.quota_bytes = options.quota_bytes;
  journal_.when_segments_come([this] { wake(); });
  pins_.when_logs_grow(options.quota_bytes / 8, [this] { wake(); });
}

Housekeeper::~Housekeeper() {
  settler_.stop();
  {
    Lock lock(mutex_);
    stop_ = true;
  }
  woken_.notify_all();
  if (thread_.joinable()) thread_.join();
  journal_.when_segments_come([] {});
  pins_.when_logs_grow(0, {});
  recorder_.hold(false);
}

void Housekeeper::stop_blocking() {
  may_block_ = false;
  Lock lock(pass_mutex_);
  recorder_.hold(false);
}

void Housekeeper::start() {
  thread_ = std::thread([this] { run(); });
  settler_.start([this] { wake(); });
  wake();
}

void Housekeeper::wake() {
  // What is left of this segment is for mutations that are already inside the barrier.
  if (may_block_ && journal_.short_of_room()) recorder_.hold(true);
  Lock lock(mutex_);
  wanted_ = true;
  woken_.notify_one();
}

void Housekeeper::run() {
  Lock lock(mutex_);
  for (;;) {
    const HousekeepingStatus seen = status();
    const bool hard_up =
        journal_.short_of_room() || seen.blocking || seen.pressure != Pressure::kNone;
    const auto again = std::chrono::steady_clock::now() + kLookAgainAfter;
    while (!stop_ && !wanted_) {
      if (!hard_up) {
        woken_.wait(lock);
      } else if (!woken_.wait_until(lock, again)) {
        break;
      }
    }
    if (stop_) return;
    wanted_ = false;
    lock.unlock();
    auto settled = settler_.due() ? settler_.settle() : Result<void>();
    auto done = pass();
    if (done) done = std::move(settled);
    {
      Lock status_lock(status_mutex_);
      status_.error = done ? "" : done.error().message();
    }
    lock.lock();
  }
}

HousekeepingStatus Housekeeper::status() const {
  Lock lock(status_mutex_);
  HousekeepingStatus now = status_;
  now.pre_image_bytes = pins_.log_bytes();  // grow and go without a pass
  return now;
}

Result<void> Housekeeper::cursors_changed() {
  EPOCHFS_TRY([[maybe_unused]] auto cursors, tell_pins());
  wake();
  return {};
}

Result<journal::CursorMap> Housekeeper::tell_pins() {
  EPOCHFS_TRY(auto cursors, journal::read_cursors(volume_.dir()));
  std::vector<EpochId> epochs;
  for (const auto& [id, cursor] : cursors) epochs.push_back(cursor.epoch);
  pins_.cursors_are(epochs);
  return cursors;
}

journal::CheckpointPolicy Housekeeper::policy(const journal::CursorMap& cursors) const {
  journal::CheckpointPolicy out;
  for (const auto& [id, cursor] : cursors) out.boundaries.push_back(cursor.epoch);
  for (EpochId end : pins_.ends()) out.boundaries.push_back(end);
  out.walk_since = journal::oldest_walk(cursors);
  if (pressure_ >= Pressure::kExtents) out.coarseness = journal::Coarseness::kExtents;
  if (pressure_ >= Pressure::kFiles) out.coarseness = journal::Coarseness::kFiles;
  return out;
}

Result<void> Housekeeper::pass() {
  Lock lock(pass_mutex_);
  settled_ = {};
  EPOCHFS_DO(keep_house());
  return settled_;
}

// What is sealed, and what is needed of it.
struct Housekeeper::Known {
  EpochId newest{};
  journal::CursorMap cursors;
  EpochId oldest{};  // of the cursors; without any, `newest`
};

// Cursors come from their files, which are durable before anything else depends on them. They are
// read after the newest epoch was sealed: a cursor written later begins its walk later, too, and so
// sees no name that was gone by then. nullopt: nothing is sealed.
Result<std::optional<Housekeeper::Known>> Housekeeper::look() {
  const auto newest = recorder_.last_sealed();
  Known known;
  EPOCHFS_TRY(known.cursors, tell_pins());
  if (!newest) return std::optional<Known>();
  known.newest = newest->epoch;
  known.oldest = journal::oldest_epoch(known.cursors).value_or(newest->epoch);
  return std::optional(std::move(known));
}

// Goes on when a step fails, perhaps because room is short: the last step makes some.
Result<void> Housekeeper::keep_house() {
  const uint64_t segment = volume_.info().segment_bytes;
  auto behind = [&](Lsn at) { return value(journal_.tail()) - value(at); };
  Result<void> outcome;
  // Dirty pages of mappings are not flushed: this epoch is not shipped without another barrier.
  if (behind(journal_.open_epoch_begin()) > segment) {
    if (auto sealed = recorder_.barrier(true, kSealTimeout); !sealed) {
      outcome = tl::unexpected(sealed.error());
    }
  }
  EPOCHFS_TRY(auto known, look());
  if (!known) return outcome;
  EPOCHFS_DO(checkpoints_.drop_up_to(known->oldest));
  EPOCHFS_TRY(EpochId needed, release(known->oldest));
  EPOCHFS_TRY(auto seal, journal::read_epoch(volume_.dir(), needed));
  if (behind(seal && value(needed) > 0 ? seal->seal : Lsn{0}) > segment) {
    auto folded = fold_what_is_sealed(*known);
    if (!folded) outcome = std::move(folded);
  }
  EPOCHFS_DO(relieve(*std::move(known)));
  return outcome;
}

Result<void> Housekeeper::fold_what_is_sealed(const Known& known) {
  const journal::CheckpointPolicy how = policy(known.cursors);
  EPOCHFS_DO(checkpoints_.extend(known.oldest, known.newest, how));
  EPOCHFS_DO(checkpoints_.compact(how));
  pins_.adopt(checkpoints_.all());
  return {};
}

// Removes segments. Returns the epoch behind which records are still needed.
Result<EpochId> Housekeeper::release(EpochId oldest) {
  EpochId needed = oldest;
  const auto checkpoints = checkpoints_.all();
  if (!checkpoints.empty()) needed = std::max(needed, checkpoints.back()->info().last);
  journal::Retention keep = options_.keep;
  if (options_.quota_bytes != 0) keep.bytes = std::min(keep.bytes, options_.quota_bytes / 2);
  if (pressure_ >= Pressure::kNear) keep.bytes = 0;
  EPOCHFS_TRY(bool all, journal_.release_up_to(needed, keep));
  if (all) return needed;
  settled_ = settler_.settle();
  if (settled_) EPOCHFS_DO(journal_.release_up_to(needed, keep));
  return needed;
}

Result<uint64_t> Housekeeper::measure() {
  EPOCHFS_TRY(auto segments, journal::list_segments(volume_.dir()));
  Lock lock(status_mutex_);
  status_.segment_bytes = segments.size() * volume_.info().segment_bytes;
  status_.checkpoint_bytes = checkpoints_.bytes();
  status_.checkpoints = checkpoints_.all().size();
  status_.pre_image_bytes = pins_.log_bytes();
  return status_.bytes();
}

bool Housekeeper::is_over(uint64_t bytes) const {
  return (options_.quota_bytes != 0 && bytes > options_.quota_bytes) || journal_.short_of_room();
}

void Housekeeper::set_pressure(Pressure pressure) {
  if (pressure == pressure_) return;
  pressure_ = pressure;
  Lock lock(status_mutex_);
  status_.pressure = pressure;
  status_.since_ns = now_ns();
}

// ---- when room is short ----

// One step of the ladder: it gives something up, so that room may become free. False: it had
// nothing to give up.
struct Housekeeper::Step {
  Result<bool> (Housekeeper::*take)(Known&);
  bool again = false;  // repeat while it gives something up and room is short
};

// Each step costs more than the one before it. It is taken only while room is short.
const Housekeeper::Step Housekeeper::kCostsNobody[] = {
    {&Housekeeper::keep_nothing_for_inspection},
    {&Housekeeper::fold_open_epoch},
    {&Housekeeper::give_up_pin_above_half_the_quota, true},
};
// Giving up a pin means to merge its epoch forward, which costs less than comparing what it
// changed.
const Housekeeper::Step Housekeeper::kTellsLess[] = {
    {&Housekeeper::coarsen<Pressure::kExtents>},
    {&Housekeeper::coarsen<Pressure::kFiles>},
    {&Housekeeper::give_up_pin, true},
    {&Housekeeper::mark_subtrees},
    {&Housekeeper::forget_tree},
};

Result<void> Housekeeper::relieve(Known known) {
  EPOCHFS_TRY([[maybe_unused]] EpochId needed, release(known.oldest));
  EPOCHFS_TRY(uint64_t bytes, measure());
  note_pressure_of(bytes);
  EPOCHFS_TRY(bool over, climb(kCostsNobody, known, pressure_ != Pressure::kNone));
  const bool block = may_block_;
  {
    Lock lock(status_mutex_);
    status_.blocking = over && block;
  }
  recorder_.hold(over && block);
  if (block) return {};
  EPOCHFS_DO(climb(kTellsLess, known, over));
  return {};
}

// Sets or lifts the pressure, which only changes what the other steps do.
void Housekeeper::note_pressure_of(uint64_t bytes) {
  const uint64_t quota = options_.quota_bytes;
  const bool near = quota != 0 && bytes > quota / 10 * 9;
  if (near || is_over(bytes)) return set_pressure(std::max(pressure_, Pressure::kNear));
  const bool told_less = pressure_ > Pressure::kNear && !checkpoints_.all().empty();
  if (!told_less && (quota == 0 || bytes < quota / 10 * 7)) set_pressure(Pressure::kNone);
}

// Returns whether room is still short.
Result<bool> Housekeeper::climb(std::span<const Step> ladder, Known& known, bool over) {
  for (const Step& step : ladder) {
    while (over) {
      EPOCHFS_TRY(bool taken, (this->*step.take)(known));
      if (!taken) break;
      EPOCHFS_DO(release(known.oldest));
      if (journal_.short_of_room()) journal_.look_for_room();
      EPOCHFS_TRY(uint64_t bytes, measure());
      over = is_over(bytes);
      if (!step.again) break;
    }
  }
  return over;
}

// The pressure is set already, so release() does it.
Result<bool> Housekeeper::keep_nothing_for_inspection(Known&) { return true; }

// Changes that are only in records go into checkpoints. If there is no room even for that, the next
// steps make some.
Result<bool> Housekeeper::fold_open_epoch(Known& known) {
  if (journal_.records_in_open_epoch() > 0) (void)recorder_.barrier(true, kSealTimeout);
  EPOCHFS_TRY(auto now, look());
  if (now) known = std::move(*now);
  (void)fold_what_is_sealed(known);
  return true;
}

Result<bool> Housekeeper::give_up_pin_above_half_the_quota(Known&) {
  return pins_.log_bytes() > options_.quota_bytes / 2 && pins_.give_up_largest(0);
}

Result<bool> Housekeeper::give_up_pin(Known&) { return pins_.give_up_largest(0); }

// Telling less helps only if checkpoints take up something.
bool Housekeeper::is_worth_telling_less() const {
  return checkpoints_.bytes() >= volume_.info().segment_bytes / kWorthTellingLess;
}

template <Pressure kStep>
Result<bool> Housekeeper::coarsen(Known& known) {
  if (!is_worth_telling_less() || pressure_ >= kStep) return false;
  set_pressure(kStep);
  (void)checkpoints_.coarsen(policy(known.cursors));
  pins_.adopt(checkpoints_.all());
  return true;
}

Result<bool> Housekeeper::mark_subtrees(Known& known) {
  struct statx a;
  FileHandle handle;
  if (!is_worth_telling_less() || identify(backing_dir_, "", a, handle) != 0) return false;
  auto parent_of = [&](const FileHandle& of) -> std::optional<journal::Subtree> {
    UniqueFd fd(open_handle(backing_dir_, of, O_PATH | O_DIRECTORY));
    struct statx parent;
    journal::Subtree out;
    if (!fd || identify(fd.get(), "..", parent, out.handle) != 0) return std::nullopt;
    out.directory = file_id(parent);
    return out;
  };
  const auto subtrees = journal::Subtrees::choose(checkpoints_.all(), file_id(a), parent_of);
  if (subtrees.marked().empty()) return false;
  set_pressure(std::max(pressure_, Pressure::kSubtrees));
  const bool marked = checkpoints_.mark(subtrees, policy(known.cursors)).has_value();
  pins_.adopt(checkpoints_.all());
  return marked;
}

Result<bool> Housekeeper::forget_tree(Known&) {
  if (!is_worth_telling_less()) return false;
  set_pressure(Pressure::kTree);
  EPOCHFS_DO(checkpoints_.forget());
  pins_.adopt(checkpoints_.all());
  return true;
}

}  // namespace epochfs::fs
