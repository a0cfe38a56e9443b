#include "fs/housekeeping/settler.h"

namespace epochfs::fs {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kSyncEvery = 1s;
constexpr auto kSettleEvery = 60s;

}  // namespace

Settler::Settler(Storage& storage, journal::Journal& journal, int backing_dir)
    : storage_(storage),
      journal_(journal),
      backing_dir_(backing_dir),
      settled_at_(steady_clock::now()) {}

Settler::~Settler() { stop(); }

void Settler::start(std::function<void()> due) {
  due_ = std::move(due);
  {
    Lock lock(mutex_);
    stop_ = false;
  }
  thread_ = std::thread([this] { run(); });
}

void Settler::stop() {
  {
    Lock lock(mutex_);
    stop_ = true;
  }
  woken_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Settler::due() const {
  return steady_clock::now() - settled_at_.load() >= kSettleEvery &&
         journal_.tail() > journal_.settled();
}

void Settler::run() {
  Lsn synced{};
  Lock lock(mutex_);
  for (;;) {
    const auto next = steady_clock::now() + kSyncEvery;
    while (!stop_ && woken_.wait_until(lock, next)) {
    }
    if (stop_) return;
    lock.unlock();
    const Lsn tail = journal_.tail();
    // A sync that fails is tried again. Callers that need it (fsync, a barrier) get the error.
    if (tail != synced && journal_.sync()) synced = tail;
    if (due()) due_();
    lock.lock();
  }
}

// A record is appended after its change was made. So the file system has every change before the
// tail by now, at least in memory.
Result<void> Settler::settle() {
  Lock lock(settle_mutex_);
  settled_at_ = steady_clock::now();  // a failure is not tried again at once
  const Lsn tail = journal_.tail();
  if (tail <= journal_.settled()) return {};
  EPOCHFS_DO(journal_.sync());
  EPOCHFS_DO(storage_.sync_filesystem("backing", backing_dir_, "the backing directory"));
  return journal_.note_settled(tail);
}

}  // namespace epochfs::fs
