#include "fs/operations/worker.h"

#include <cap-ng.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "fs/base/privileges.h"

namespace epochfs::fs {
namespace {

// Changes this thread only, by one system call: libcap-ng remembers what the thread has. A
// capability that the process does not have stays off.
void set_effective_capability(unsigned capability, bool on) {
  if (!::capng_have_capability(CAPNG_PERMITTED, capability)) return;
  EPOCHFS_CHECK(::capng_update(on ? CAPNG_ADD : CAPNG_DROP, CAPNG_EFFECTIVE, capability) == 0);
  EPOCHFS_CHECK(::capng_apply(CAPNG_SELECT_CAPS) == 0);
}

// The C library's setgroups() would change the groups of all threads.
void set_groups(const std::vector<gid_t>& groups) {
  EPOCHFS_CHECK(::syscall(SYS_setgroups, groups.size(), groups.data()) == 0);
}

}  // namespace

WorkerThread::WorkerThread(Recorder& recorder)
    : recorder_(recorder),
      uid_(::geteuid()),
      gid_(::getegid()),
      may_set_groups_(has_capability(CAP_SETGID)) {
  // libfuse cancels its threads when a session ends. That must not happen within an operation: what
  // it has changed must get into the journal.
  ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  EPOCHFS_CHECK(::unshare(CLONE_FS) == 0);
  mask_ = ::umask(022);
  ::umask(mask_);
  // Otherwise the process's own groups would count instead of the caller's.
  if (may_set_groups_) set_groups({});
  // Without this, setfsuid() to an ordinary user drops the capabilities that operations need. It
  // takes CAP_SETPCAP, which a mount by root has.
  int bits = ::prctl(PR_GET_SECUREBITS);
  ::prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP);
  auto worker = recorder.add_worker();
  EPOCHFS_CHECK(worker.has_value());  // the session starts fewer threads than there are slots
  worker_ = *worker;
}

WorkerThread::~WorkerThread() { recorder_.remove_worker(worker_); }

void WorkerThread::bind_by_limits(bool bound) {
  if (bound == bound_by_limits_) return;
  set_effective_capability(CAP_SYS_RESOURCE, !bound);
  bound_by_limits_ = bound;
}

WorkerThread::Spending::Spending(WorkerThread& thread, uid_t caller)
    : thread_(thread), switched_(caller != thread.uid_) {
  thread_.bind_by_limits(caller != 0);
  if (switched_) ::setfsuid(caller);
}

WorkerThread::Spending::~Spending() {
  if (!switched_) return;
  const int error = errno;
  ::setfsuid(thread_.uid_);
  errno = error;
}

WorkerThread::AsCaller::AsCaller(WorkerThread& thread, uid_t uid, gid_t gid, mode_t mask)
    : thread_(thread), uid_(uid), gid_(gid) {
  // The C library's setfsuid() is the bare system call: this thread only.
  thread_.bind_by_limits(uid_ != 0);
  if (gid_ != thread_.gid_) ::setfsgid(gid_);
  if (uid_ != thread_.uid_) ::setfsuid(uid_);
  // The umask is not restored. The next caller sets its own, and the modes of our own files do not
  // depend on it.
  if (mask != thread.mask_) {
    ::umask(mask);
    thread.mask_ = mask;
  }
}

WorkerThread::AsCaller::~AsCaller() {
  const int error = errno;
  if (uid_ != thread_.uid_) ::setfsuid(thread_.uid_);
  if (gid_ != thread_.gid_) ::setfsgid(thread_.gid_);
  errno = error;
}

WorkerThread::AsOrdinaryUser::AsOrdinaryUser(WorkerThread& thread, const std::vector<gid_t>& groups)
    : thread_(thread), really_(!groups.empty() && thread.may_set_groups_) {
  if (!really_) return;
  set_groups(groups);
  ::setfsgid(groups.front());
  set_effective_capability(CAP_FSETID, false);
}

WorkerThread::AsOrdinaryUser::~AsOrdinaryUser() {
  if (!really_) return;
  const int error = errno;
  set_effective_capability(CAP_FSETID, true);
  ::setfsgid(thread_.gid_);
  set_groups({});
  errno = error;
}

WorkerThread::WithoutAdministration::WithoutAdministration(bool really) : really_(really) {
  if (really_) set_effective_capability(CAP_SYS_ADMIN, false);
}

WorkerThread::WithoutAdministration::~WithoutAdministration() {
  if (!really_) return;
  const int error = errno;
  set_effective_capability(CAP_SYS_ADMIN, true);
  errno = error;
}

WorkerThread& Workers::current() {
  thread_local std::unique_ptr<WorkerThread> mine;
  if (!mine) mine = std::make_unique<WorkerThread>(recorder_);
  return *mine;
}

}  // namespace epochfs::fs
