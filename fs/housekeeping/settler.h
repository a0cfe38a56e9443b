// Settler: which changes could a power cut lose unnoticed? It keeps them few.
//
// - While records come, it makes the journal durable every second. A change whose record is on the
//   disk is never overlooked when source and target are compared.
// - settle() makes the backing file system durable as well, and notes up to which record
//   (journal/log/settled.h). Only files that changed behind that record can have lost bytes: after
//   the machine stopped, recovery suspects those files and no others. Segments behind it stay.
//
// Threads: any may call. It has a thread of its own that only syncs the journal, so a file system
// that takes minutes to sync does not hold that up.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "journal/base/mutex.h"
#include "journal/log/journal.h"

namespace epochfs::fs {

class Settler {
 public:
  // backing_dir: any file of the backing file system, open for reading. All are borrowed.
  Settler(Storage& storage, journal::Journal& journal, int backing_dir);
  ~Settler();

  // Its own thread calls `due` each time settle() becomes due.
  void start(std::function<void()> due);
  void stop();

  // Something was recorded since the last settle(), and that was a minute ago.
  bool due() const;

  // Returns when everything that was recorded before the call is durable, in the backing file
  // system too, and this is noted. Slow: syncfs(2). One at a time.
  Result<void> settle();

 private:
  void run();

  Storage& storage_;
  journal::Journal& journal_;
  const int backing_dir_;
  std::function<void()> due_;
  std::atomic<std::chrono::steady_clock::time_point> settled_at_;

  Mutex settle_mutex_;
  Mutex mutex_;
  Condition woken_;
  bool stop_ EPOCHFS_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace epochfs::fs
