#include "replicator/relationship/watchers.h"

#include <utility>

namespace epochfs::replicator {

Watch Watchers::watch(std::string id, LoopSignal& signal) {
  Lock lock(mutex_);
  return Watch(*this, signals_.emplace(std::move(id), &signal));
}

void Watchers::wake(const std::string& id) {
  Lock lock(mutex_);
  auto [at, end] = signals_.equal_range(id);
  for (; at != end; ++at) at->second->signal();
}

Watch::Watch(Watch&& other) noexcept
    : watchers_(std::exchange(other.watchers_, nullptr)), at_(other.at_) {}

Watch& Watch::operator=(Watch&& other) noexcept {
  std::swap(watchers_, other.watchers_);
  std::swap(at_, other.at_);
  return *this;
}

Watch::~Watch() {
  if (!watchers_) return;
  Lock lock(watchers_->mutex_);
  watchers_->signals_.erase(at_);
}

}  // namespace epochfs::replicator
