// Session: what was agreed with the kernel, and which threads serve its requests? Owns libfuse's
// session from the mount to the unmount. Knows nothing of journals.
#pragma once

#include <pthread.h>

#include <memory>
#include <string>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {

struct SessionOptions {
  std::string mountpoint;
  std::string source;  // what mount(8) shows: the backing directory
  bool others = true;  // all users may use it
  bool suid = false, dev = false, exec = true, read_only = false;
};

class Session {
 public:
  // Mounts. Requests wait until run() is called. fs is borrowed.
  static Result<std::unique_ptr<Session>> mount(Filesystem& fs, const SessionOptions& options);
  // Unmounts, if that has not happened yet, and ends what still uses the mount.
  ~Session();

  // Serves requests until the file system is unmounted or end() is called. When it returns, the
  // threads that it started have ended.
  Result<void> run();

  // Makes run() return, even if the file system is in use. Any thread.
  void end();

 private:
  explicit Session(fuse_session* session) : session_(session) {}

  fuse_session* session_;
  pthread_t runner_{};
  std::atomic<bool> running_{false};
  bool mounted_ = false;
};

}  // namespace epochfs::fs
