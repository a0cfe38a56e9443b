#include "fs/recording/recorder.h"

#include <fmt/format.h>

#include <algorithm>

#include "fs/recording/pins.h"

namespace epochfs::fs {
namespace {

constexpr ByteRange kAllBytes{0, ByteRange::kEndOfFile};

// A file that was made in the open epoch is new in every byte, even where nothing was written: it
// is shipped whole. A file that was made without a name counts as made again when it gets one.
bool makes_a_file(journal::RecordType type) {
  return type == journal::RecordType::kCreate || type == journal::RecordType::kTemporary;
}

// What the mutation is, for a cut that waits for it. A file that is being made has no inode yet, so
// its directory's is named.
std::string described(const journal::InFlight::Slot& slot) {
  const auto intent = slot.peek();
  if (!intent) return "";
  return fmt::format("{} of inode {} by pid {}", journal::type_name(intent->type),
                     intent->file ? intent->file.inode : intent->parent.inode, intent->caller.pid);
}

tl::unexpected<Error> no_turn(std::chrono::milliseconds timeout) {
  return fail(fmt::format("cut epoch: another barrier took longer than {} ms", timeout.count()), 0,
              ExitStatus::kTimedOut);
}

}  // namespace

Recorder::Recorder(journal::Journal& journal, Barrier& barrier, Pins& pins, int backing_dir,
                   std::optional<journal::SealedEpoch> last_sealed)
    : journal_(journal),
      barrier_(barrier),
      pins_(pins),
      backing_dir_(backing_dir),
      last_sealed_(last_sealed) {}

std::optional<Worker> Recorder::add_worker() {
  journal::InFlight::Slot* slot = journal_.in_flight().claim();
  if (!slot) return std::nullopt;
  return Worker{barrier_.take_seat([slot] { return described(*slot); }), slot};
}

void Recorder::remove_worker(Worker& worker) {
  journal_.in_flight().release(worker.slot);
  barrier_.give_back(worker.seat);
  worker = {};
}

Recorder::Mutation::Mutation(Recorder& recorder, Worker& worker, const journal::Record& intent,
                             std::span<const Touched> touched)
    : recorder_(recorder), worker_(worker), record_(intent), touched_(touched) {
  recorder_.wait_while_held();
  recorder_.barrier_.enter(worker_.seat);
  // Filled before anything that can take long, so that a cut that waits can say what it waits for.
  worker_.slot->fill({&record_, 1});
  for (const Touched& file : touched_) recorder_.pins_.save(file);
  worker_.seat->reach(Barrier::Seat::kActing);
}

Recorder::Mutation::~Mutation() {
  worker_.slot->clear();
  recorder_.barrier_.leave(worker_.seat);
}

void Recorder::Mutation::also_dirty(const FileId& id, ByteRange data) {
  recorder_.pins_.dirty(id, data);
}

void Recorder::Mutation::commit() {
  EPOCHFS_CHECK(!committed_);
  committed_ = true;
  worker_.seat->reach(Barrier::Seat::kRecording);
  if (recorder_.journal_.append(record_) == Lsn{0}) recorder_.pins_.dirty_all();
  for (const Touched& file : touched_) recorder_.pins_.dirty(file.id, file.data);
  if (makes_a_file(record_.type)) recorder_.pins_.dirty(record_.file, kAllBytes);
}

void Recorder::Mutation::commit_also(journal::Record record) {
  EPOCHFS_CHECK(committed_);
  if (recorder_.journal_.append(record) == Lsn{0}) recorder_.pins_.dirty_all();
  recorder_.pins_.dirty(record.file, {});
}

void Recorder::hold(bool on) {
  if (on) {
    held_ |= kHeld;
  } else if (held_.fetch_and(~kHeld) & kHeld) {
    held_.notify_all();
  }
}

void Recorder::wait_while_held() {
  while (held_.load(std::memory_order_relaxed) == kHeld) held_.wait(kHeld);
}

// One caller's turn in barrier(). False: it did not come before the deadline.
class Recorder::Turn {
 public:
  Turn(Recorder& recorder, std::chrono::steady_clock::time_point deadline) : r_(recorder) {
    Lock lock(r_.turn_mutex_);
    while (r_.turn_taken_ && r_.turn_over_.wait_until(lock, deadline)) {
    }
    taken_ = !r_.turn_taken_;
    r_.turn_taken_ = true;
  }
  ~Turn() {
    if (!taken_) return;
    Lock lock(r_.turn_mutex_);
    r_.turn_taken_ = false;
    r_.turn_over_.notify_one();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  explicit operator bool() const { return taken_; }

 private:
  Recorder& r_;
  bool taken_;
};

Result<journal::SealedEpoch> Recorder::barrier(
    bool only_if_changed, std::chrono::milliseconds timeout,
    const std::function<void(const journal::SealedEpoch&)>& at_seal) {
  using std::chrono::steady_clock;
  const auto deadline = steady_clock::now() + timeout;
  Turn turn(*this, deadline);
  if (!turn) return no_turn(timeout);
  const auto left = std::max(deadline - steady_clock::now(), steady_clock::duration::zero());
  return barrier_in_turn(only_if_changed,
                         std::chrono::duration_cast<std::chrono::milliseconds>(left), at_seal);
}

Result<std::optional<journal::SealedEpoch>> Recorder::newest_if_unchanged(
    std::chrono::milliseconds timeout) {
  Turn turn(*this, std::chrono::steady_clock::now() + timeout);
  if (!turn) return no_turn(timeout);
  EPOCHFS_DO(publish_what_is_owed());
  if (journal_.records_in_open_epoch() != 0) return std::optional<journal::SealedEpoch>();
  return last_sealed();
}

Result<journal::SealedEpoch> Recorder::barrier_in_turn(
    bool only_if_changed, std::chrono::milliseconds timeout,
    const std::function<void(const journal::SealedEpoch&)>& at_seal) {
  EPOCHFS_DO(publish_what_is_owed());
  const std::optional<journal::SealedEpoch> newest = last_sealed();
  auto unchanged = [&] {
    return only_if_changed && newest && journal_.records_in_open_epoch() == 0;
  };
  // Every mutation that returned before this call is counted, so this needs no pause.
  if (!at_seal && unchanged()) return *newest;

  journal::SealedEpoch sealed;
  EPOCHFS_DO(barrier_.cut(timeout, [&] {
    sealed = unchanged() ? *newest : seal();
    if (at_seal) at_seal(sealed);
  }));
  EPOCHFS_DO(publish_what_is_owed());
  return sealed;
}

// Runs inside the barrier.
journal::SealedEpoch Recorder::seal() {
  journal::SealedEpoch sealed = journal_.seal();
  pins_.seal(sealed.epoch);
  unpublished_ = sealed;
  return sealed;
}

Result<void> Recorder::publish_what_is_owed() {
  if (!unpublished_) return {};
  EPOCHFS_DO(journal_.publish(*unpublished_));
  {
    Lock lock(sealed_mutex_);
    last_sealed_ = *unpublished_;
  }
  unpublished_.reset();
  pins_.compact();
  return {};
}

std::optional<journal::SealedEpoch> Recorder::last_sealed() const {
  Lock lock(sealed_mutex_);
  return last_sealed_;
}

}  // namespace epochfs::fs
