// Settler: what may a power cut take unnoticed, and of what is more known?
//
// - While records come, it makes the journal durable every second: a change whose record
//   is on the disk is never forgotten by those who compare.
// - settle() makes the backing file system durable as well and notes up to where
//   (journal/log/settled.h). Only what lies behind that can have lost its bytes: after a stop
//   of the machine recovery doubts those files, and no others. Segments behind it stay.
//
// Threads: any may call. One of its own, for the journal alone, so that a file system
// that takes minutes to sync holds up nothing here.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "journal/base/mutex.h"
#include "journal/log/journal.h"

namespace epochfs::fs {

class Settler {
 public:
  // backing_dir: any file of the backing file system that is open for reading. All are
  // borrowed.
  Settler(Storage& storage, journal::Journal& journal, int backing_dir);
  ~Settler();

  // `due` is called, by its own thread, each time that settle() has become due.
  void start(std::function<void()> due);
  void stop();

  // Something was recorded since the last time, and that is a minute ago.
  bool due() const;

  // Returns when everything that was recorded before the call is durable, in the backing
  // file system too, and noted. Slow: syncfs(2). One at a time.
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
