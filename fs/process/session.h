// Session: what was agreed with the kernel, and who serves its requests? Owns libfuse's
// session from the mount to the unmount. Knows nothing of journals.
#pragma once

#include <pthread.h>

#include <memory>
#include <string>

#include "fs/operations/filesystem.h"

namespace epochfs::fs {

struct SessionOptions {
  std::string mountpoint;
  std::string source;  // as mount(8) shows it: the backing directory
  bool others = true;  // all users may use it
  bool suid = false, dev = false, exec = true, read_only = false;
};

class Session {
 public:
  // Mounts. Requests wait until run() is called. fs must outlive the session.
  static Result<std::unique_ptr<Session>> mount(Filesystem& fs, const SessionOptions& options);
  // Unmounts, if that has not happened, and ends what is still in use of it.
  ~Session();

  // Serves requests until the file system is unmounted or end() is called. The threads
  // that it starts have ended when it returns.
  Result<void> run();

  // Makes run() return, although the file system may be in use. Any thread.
  void end();

 private:
  explicit Session(fuse_session* session) : session_(session) {}

  fuse_session* session_;
  pthread_t runner_{};
  std::atomic<bool> running_{false};
  bool mounted_ = false;
};

}  // namespace epochfs::fs
