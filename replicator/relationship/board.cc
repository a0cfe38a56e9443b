#include "replicator/relationship/board.h"

namespace epochfs::replicator {

Progress ProgressBoard::get(const std::string& id) const {
  Lock lock(mutex_);
  auto at = progress_.find(id);
  return at == progress_.end() ? Progress{} : at->second;
}

void ProgressBoard::update(const std::string& id, const std::function<void(Progress&)>& change) {
  {
    // Under the lock, so that forget() comes later and finds the entry.
    Lock lock(mutex_);
    if (!table_.contains(id)) return;
    change(progress_[id]);
  }
  updates_.wake(id);
}

void ProgressBoard::forget(const std::string& id) {
  {
    Lock lock(mutex_);
    progress_.erase(id);
  }
  updates_.wake(id);
}

uint64_t ProgressBoard::ask(const std::string& id) {
  uint64_t ticket = 0;
  update(id, [&](Progress& p) { ticket = ++p.asked; });
  if (ticket > 0) asked_.wake(id);
  return ticket;
}

}  // namespace epochfs::replicator
