// Mutex: which lock guards which data? The one mutex of the program, with the annotations from
// which clang's -Wthread-safety proves the answer at compile time. libstdc++'s std::mutex carries
// none.
//
// These are std::mutex and std::condition_variable beneath, with nothing added at run time. A
// condition is waited for in a loop, since the analysis does not look into a predicate's lambda:
//
//   Lock lock(mutex_);
//   while (!ready_) changed_.wait(lock);
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define EPOCHFS_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define EPOCHFS_THREAD_ATTRIBUTE(x)
#endif

// A member that may be touched only while the mutex is held.
#define EPOCHFS_GUARDED_BY(mutex) EPOCHFS_THREAD_ATTRIBUTE(guarded_by(mutex))
// The same for what a pointer points to.
#define EPOCHFS_PT_GUARDED_BY(mutex) EPOCHFS_THREAD_ATTRIBUTE(pt_guarded_by(mutex))
// A function whose caller holds the mutexes,
#define EPOCHFS_REQUIRES(...) EPOCHFS_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
// or must not hold them.
#define EPOCHFS_EXCLUDES(...) EPOCHFS_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define EPOCHFS_ACQUIRE(...) EPOCHFS_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define EPOCHFS_RELEASE(...) EPOCHFS_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define EPOCHFS_TRY_ACQUIRE(...) EPOCHFS_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define EPOCHFS_ACQUIRED_BEFORE(...) EPOCHFS_THREAD_ATTRIBUTE(acquired_before(__VA_ARGS__))
#define EPOCHFS_RETURN_CAPABILITY(mutex) EPOCHFS_THREAD_ATTRIBUTE(lock_returned(mutex))
// Turns the analysis off for one function. A comment beside it says why the function is right.
#define EPOCHFS_NO_THREAD_SAFETY_ANALYSIS EPOCHFS_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace epochfs {

class EPOCHFS_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() EPOCHFS_ACQUIRE() { mutex_.lock(); }
  void unlock() EPOCHFS_RELEASE() { mutex_.unlock(); }
  bool try_lock() EPOCHFS_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class Lock;
  std::mutex mutex_;
};

// Holds a mutex until the end of its scope. May be given back and taken again meanwhile.
class EPOCHFS_THREAD_ATTRIBUTE(scoped_lockable) Lock {
 public:
  explicit Lock(Mutex& mutex) EPOCHFS_ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  ~Lock() EPOCHFS_RELEASE() {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void lock() EPOCHFS_ACQUIRE() { lock_.lock(); }
  void unlock() EPOCHFS_RELEASE() { lock_.unlock(); }

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// A wait may end early without a notification, as with std::condition_variable.
class Condition {
 public:
  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

  void wait(Lock& lock) { condition_.wait(lock.lock_); }
  // False: the time was over first.
  template <typename Clock, typename Duration>
  bool wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& until) {
    return condition_.wait_until(lock.lock_, until) == std::cv_status::no_timeout;
  }
  template <typename Rep, typename Period>
  bool wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& time) {
    return condition_.wait_for(lock.lock_, time) == std::cv_status::no_timeout;
  }

 private:
  std::condition_variable condition_;
};

}  // namespace epochfs
