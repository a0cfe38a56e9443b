// WorkerThread: as whom does a thread of the mount act, and where does it record?
//
// At its first request, every thread that serves requests gets a umask of its own, the ability to
// change its file system identity without losing capabilities, and its place at the recorder. It
// gives its place back when it ends.
//
// Threads: a WorkerThread belongs to one thread; Workers is shared.
#pragma once

#include <cstdint>
#include <vector>

#include "fs/base/fuse.h"
#include "fs/recording/recorder.h"

namespace epochfs::fs {

class WorkerThread {
 public:
  explicit WorkerThread(Recorder& recorder);
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  Worker& recording() { return worker_; }

  // For one system call whose result depends on the caller: new files get the caller's owner,
  // group and umask. Not for longer, or what the journal or a pin makes meanwhile would be the
  // caller's, too. Capabilities stay.
  class AsCaller {
   public:
    AsCaller(WorkerThread& thread, const fuse_ctx& caller)
        : AsCaller(thread, caller.uid, caller.gid, caller.umask) {}
    AsCaller(WorkerThread& thread, uid_t uid, gid_t gid, mode_t mask);
    ~AsCaller();
    AsCaller(const AsCaller&) = delete;
    AsCaller& operator=(const AsCaller&) = delete;

   private:
    WorkerThread& thread_;
    uid_t uid_;
    gid_t gid_;
  };

  // For one system call that may take room on the disk: an ordinary caller gets nothing of what
  // the file system reserves for root, and the caller's quota counts.
  class Spending {
   public:
    Spending(WorkerThread& thread, uid_t caller);
    ~Spending();
    Spending(const Spending&) = delete;
    Spending& operator=(const Spending&) = delete;

   private:
    WorkerThread& thread_;
    const bool switched_;
  };

  // For one system call that clears set-id bits unless its caller may keep them. The kernel asks
  // for CAP_FSETID, which the thread then lacks; and for set-gid bits, for membership of the file's
  // group.
  class AsOrdinaryUser {
   public:
    // groups: the effective one first. Without any, this does nothing.
    AsOrdinaryUser(WorkerThread& thread, const std::vector<gid_t>& groups);
    ~AsOrdinaryUser();
    AsOrdinaryUser(const AsOrdinaryUser&) = delete;
    AsOrdinaryUser& operator=(const AsOrdinaryUser&) = delete;

   private:
    WorkerThread& thread_;
    const bool really_;
  };

  // For one system call that shows more to a caller with CAP_SYS_ADMIN.
  class WithoutAdministration {
   public:
    explicit WithoutAdministration(bool really);
    ~WithoutAdministration();
    WithoutAdministration(const WithoutAdministration&) = delete;
    WithoutAdministration& operator=(const WithoutAdministration&) = delete;

   private:
    const bool really_;
  };

 private:
  // Whether quotas and reserved blocks bind the thread. This is not undone: the next caller sets
  // its own, and what the journal makes meanwhile is root's by its user id.
  void bind_by_limits(bool bound);

  Recorder& recorder_;
  Worker worker_;
  const uid_t uid_;  // the process's own
  const gid_t gid_;
  mode_t mask_;
  bool bound_by_limits_ = false;
  const bool may_set_groups_;  // false: there is only one user, whose groups are the process's
};

class Workers {
 public:
  explicit Workers(Recorder& recorder) : recorder_(recorder) {}
  // The calling thread's own, made at the first call.
  WorkerThread& current();

 private:
  Recorder& recorder_;
};

}  // namespace epochfs::fs
