// WriteBack: how is the disk kept busy while more is received? A thread has the kernel write
// staged bytes from time to time, so that Stage::sync has little left to wait for. It promises
// no durability; Stage::sync does.
#pragma once

#include <thread>

#include "journal/base/mutex.h"
#include "journal/base/unix.h"

namespace epochfs::replicator {

class WriteBack {
 public:
  // `dir`: any directory of the file system.
  explicit WriteBack(int dir);
  ~WriteBack();  // waits until the kernel has written what it was told last

  // Notes that `bytes` more were staged. Never waits. From one thread.
  void staged(uint64_t bytes);

 private:
  void run();

  UniqueFd fd_;  // a separate description: it must not consume write errors of others
  Mutex mutex_;
  Condition wake_;
  bool wanted_ EPOCHFS_GUARDED_BY(mutex_) = false;
  bool stop_ EPOCHFS_GUARDED_BY(mutex_) = false;
  uint64_t bytes_ = 0;  // staged since the last write-back; the staging thread's own
  std::thread thread_;  // started when there is something to do
};

}  // namespace epochfs::replicator
