#include "replicator/target/directory/write_back.h"

#include <fcntl.h>

namespace epochfs::replicator {

constexpr uint64_t kWriteBackEvery = 128 << 20;  // a fraction of a second of disk time

WriteBack::WriteBack(int dir) : fd_(::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

WriteBack::~WriteBack() {
  if (!thread_.joinable()) return;
  {
    Lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void WriteBack::staged(uint64_t bytes) {
  bytes_ += bytes;
  if (bytes_ < kWriteBackEvery || !fd_) return;
  bytes_ = 0;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  {
    Lock lock(mutex_);
    wanted_ = true;
  }
  wake_.notify_one();
}

void WriteBack::run() {
  Lock lock(mutex_);
  for (;;) {
    while (!wanted_ && !stop_) wake_.wait(lock);
    if (stop_) return;
    wanted_ = false;
    lock.unlock();
    ::syncfs(fd_.get());
    lock.lock();
  }
}

}  // namespace epochfs::replicator
