// WriteBack: how is the disk kept busy while more is received? A thread that has
// the kernel write what was staged, every so often, so that little is left to wait
// for when it has to be durable. Promises nothing: durability is Stage::sync.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "journal/base/unix.h"

namespace epochfs::replicator {

class WriteBack {
 public:
  // `dir`: any directory of the file system.
  explicit WriteBack(int dir);
  ~WriteBack();  // waits for what the kernel was told to write last

  // That many more bytes were staged. Never waits.
  void staged(uint64_t bytes);

 private:
  void run();

  UniqueFd fd_;  // of its own, so that errors are not taken from others
  std::mutex mutex_;
  std::condition_variable wake_;
  bool wanted_ = false;
  bool stop_ = false;
  uint64_t bytes_ = 0;  // since the last time; of the staging thread
  std::thread thread_;  // once there is something to do
};

}  // namespace epochfs::replicator
