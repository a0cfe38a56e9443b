// Watchers: which event loops are woken when one relationship changes? Only those that watch this
// relationship. Says that something changed, not what: the watcher looks for itself.
//
// Threads: all methods, from any. The lock is a leaf: nothing is called under it but
// LoopSignal::signal().
#pragma once

#include <map>
#include <string>

#include "journal/base/mutex.h"
#include "replicator/relationship/loop_signal.h"

namespace epochfs::replicator {

// One watcher of one relationship, until it is destroyed. Must not outlive what it watches, nor
// the signal. A default-constructed one watches nothing.
class [[nodiscard]] Watch;

class Watchers {
 public:
  Watchers() = default;
  Watchers(const Watchers&) = delete;

  // Signals `signal` on every later wake() of `id`. The relationship need not exist yet. Whoever
  // decides by the relationship's state watches first and looks then; otherwise a change in
  // between goes unnoticed.
  Watch watch(std::string id, LoopSignal& signal);

  void wake(const std::string& id);

 private:
  friend class Watch;
  using Signals = std::multimap<std::string, LoopSignal*>;

  Mutex mutex_;
  Signals signals_ EPOCHFS_GUARDED_BY(mutex_);
};

class Watch {
 public:
  Watch() = default;
  Watch(Watch&& other) noexcept;
  Watch& operator=(Watch&& other) noexcept;
  ~Watch();

 private:
  friend class Watchers;
  Watch(Watchers& watchers, Watchers::Signals::iterator at) : watchers_(&watchers), at_(at) {}

  Watchers* watchers_ = nullptr;
  Watchers::Signals::iterator at_;
};

}  // namespace epochfs::replicator
