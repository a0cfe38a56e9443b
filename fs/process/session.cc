#include "fs/process/session.h"

#include <fmt/format.h>
#include <signal.h>

#include <cstdarg>
#include <cstdio>
#include <fstream>

#include "journal/base/logging.h"

namespace epochfs::fs {
namespace {

constexpr unsigned kMaxWrite = 1 << 20;
constexpr unsigned kMaxBackground = 128;  // read-ahead and asynchronous direct I/O
constexpr unsigned kMaxThreads = 32;      // that read from /dev/fuse
static_assert(kMaxThreads < journal::kInFlightSlots);

struct Wish {
  uint64_t capability;
  const char* name;
  const char* without;  // what it means if it is missing
};

// What the session asks of the kernel beyond libfuse's defaults.
constexpr Wish kWishes[] = {
    {FUSE_CAP_POSIX_ACL, "posix_acl", "the kernel does not know ACLs over FUSE"},
    {FUSE_CAP_DONT_MASK, "dont_mask", "the kernel applies the umask in spite of default ACLs"},
    {FUSE_CAP_PARALLEL_DIROPS, "parallel_dirops", "one look-up at a time in each directory"},
    {FUSE_CAP_READDIRPLUS, "readdirplus", "one more request for each file listed"},
    {FUSE_CAP_READDIRPLUS_AUTO, "readdirplus_auto", "listings always look up every file"},
    {FUSE_CAP_CACHE_SYMLINKS, "cache_symlinks", "a request for each symbolic link"},
    // The cache changes only when we say so, since nothing else writes. Not AUTO_INVAL_DATA: that
    // would drop it after each write, taking the new mtime for a stranger's change.
    {FUSE_CAP_EXPLICIT_INVAL_DATA, "explicit_inval_data", "cached pages go with every mtime"},
    {FUSE_CAP_EXPORT_SUPPORT, "export_support", "no NFS export"},
    {FUSE_CAP_ASYNC_DIO, "async_dio", "one direct I/O at a time"},
    {FUSE_CAP_SPLICE_WRITE, "splice_write", "one more copy for large reads"},
#if EPOCHFS_FUSE_KILLPRIV_V2
    {FUSE_CAP_HANDLE_KILLPRIV_V2, "killpriv_v2", "a request more before each write"},
#endif
};

bool want(fuse_conn_info* conn, uint64_t capability) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
  return fuse_set_feature_flag(conn, capability);
#else
  if (!(conn->capable & capability)) return false;
  conn->want |= unsigned(capability);
  return true;
#endif
}

void do_not_want(fuse_conn_info* conn, uint64_t capability) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
  fuse_unset_feature_flag(conn, capability);
#else
  conn->want &= ~unsigned(capability);
#endif
}

void init(void* userdata, fuse_conn_info* conn) {
  Filesystem& fs = *static_cast<Filesystem*>(userdata);
  // Without it, the kernel truncates by a setattr before it opens, and that is recorded.
  do_not_want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
  do_not_want(conn, FUSE_CAP_AUTO_INVAL_DATA);
  auto ask = [&](const Wish& wish) {
    if (want(conn, wish.capability)) {
      fs.features.push_back(wish.name);
    } else {
      fs.missing.push_back(fmt::format("{}: not in this kernel; {}", wish.name, wish.without));
    }
  };
  for (const Wish& wish : kWishes) ask(wish);
  if (fs.options.writeback) {
    ask({FUSE_CAP_WRITEBACK_CACHE, "writeback", "each write is sent by itself"});
  }
  conn->max_write = kMaxWrite;
  conn->max_background = kMaxBackground;
#if EPOCHFS_FUSE_URING
  // Nothing here can be interrupted, and libfuse's book-keeping for interrupts is a lock that all
  // threads share.
  conn->no_interrupt = 1;
#endif
  fs.negotiated = true;
}

#if EPOCHFS_FUSE_URING
bool uring_is_enabled() {
  std::ifstream in("/sys/module/fuse/parameters/enable_uring");
  return in.get() == 'Y';
}
#endif

// Notes what this build or this machine lacks, whatever the kernel says.
void note_absent(Filesystem& fs, bool uring) {
#if EPOCHFS_FUSE_URING
  if (!fs.options.io_uring) {
    fs.missing.push_back("io_uring: not wanted (-o transport=device)");
  } else if (!uring) {
    fs.missing.push_back(
        "io_uring: the fuse module's enable_uring is off; turn it on with: "
        "echo Y > /sys/module/fuse/parameters/enable_uring");
  }
#else
  fs.missing.push_back("io_uring: needs libfuse 3.18");
#endif
#if !EPOCHFS_FUSE_KILLPRIV_V2
  fs.missing.push_back("killpriv_v2: needs libfuse 3.18.3");
#endif
#if !EPOCHFS_FUSE_TMPFILE
  fs.missing.push_back("tmpfile: needs libfuse 3.17");
#endif
#if !EPOCHFS_FUSE_STATX
  fs.missing.push_back("statx: birth times need libfuse 3.18");
#endif
  fs.missing.push_back(
      "passthrough: reads are served from the mount's own cache; a file read past it "
      "could be written through a mapping that no epoch knows of");
}

// ---- every request is counted, before its operation runs ----

template <auto kOperation>
struct Counted;
template <typename... A, void (*fuse_lowlevel_ops::*kOperation)(fuse_req_t, A...)>
struct Counted<kOperation> {
  static void run(fuse_req_t req, A... arguments) {
    Filesystem& fs = filesystem(req);
    fs.idle_latency.arrived();
    (fs.operations.*kOperation)(req, arguments...);
  }
};

template <auto... kOperations>
void count(fuse_lowlevel_ops& ops) {
  auto one = [&]<auto kOperation>() {
    if (ops.*kOperation) ops.*kOperation = Counted<kOperation>::run;
  };
  (one.template operator()<kOperations>(), ...);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops{};
  ops.init = init;
  add_lookup_operations(ops);
  add_attribute_operations(ops);
  add_name_operations(ops);
  add_data_operations(ops);
  add_directory_operations(ops);
  add_xattr_operations(ops);
  return ops;
}

fuse_lowlevel_ops counted(fuse_lowlevel_ops ops) {
  using Ops = fuse_lowlevel_ops;
  count<&Ops::lookup, &Ops::getattr, &Ops::setattr, &Ops::readlink, &Ops::mknod, &Ops::mkdir,
        &Ops::unlink, &Ops::rmdir, &Ops::symlink, &Ops::rename, &Ops::link, &Ops::open, &Ops::read,
        &Ops::write, &Ops::release, &Ops::fsync, &Ops::opendir, &Ops::readdir, &Ops::readdirplus,
        &Ops::setxattr, &Ops::getxattr, &Ops::listxattr, &Ops::removexattr, &Ops::create,
        &Ops::fallocate, &Ops::copy_file_range, &Ops::lseek>(ops);
  return ops;
}

// libfuse explains itself in log lines. While a LogListener lives, they become part of the error;
// otherwise they go to the log.
thread_local std::string* log_listener = nullptr;

void log_line(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  if (level > FUSE_LOG_WARNING) return;
  std::string text = line;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (log_listener) {
    *log_listener = std::move(text);
  } else {
    log::write(level == FUSE_LOG_WARNING ? log::Level::kWarning : log::Level::kError,
               "libfuse reported a problem", {{"problem", text}});
  }
}

class LogListener {
 public:
  LogListener() { log_listener = &line_; }
  ~LogListener() { log_listener = nullptr; }
  // The last line, as the end of an error message.
  std::string reason() const { return line_.empty() ? "" : ": " + line_; }

 private:
  std::string line_;
};

struct Arguments {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);

  explicit Arguments(const SessionOptions& options, bool uring) {
    char* list = nullptr;
    auto add = [&](const std::string& option) {
      EPOCHFS_CHECK(fuse_opt_add_opt_escaped(&list, option.c_str()) == 0);
    };
    add("fsname=" + options.source);
    add("subtype=epochfs");
    if (options.others) add("allow_other");
    add("default_permissions");
    add(options.suid ? "suid" : "nosuid");
    add(options.dev ? "dev" : "nodev");
    if (!options.exec) add("noexec");
    if (options.read_only) add("ro");
    if (uring) add("io_uring");
    EPOCHFS_CHECK(fuse_opt_add_arg(&args, "epochfs") == 0);
    EPOCHFS_CHECK(fuse_opt_add_arg(&args, "-o") == 0);
    EPOCHFS_CHECK(fuse_opt_add_arg(&args, list) == 0);
    free(list);
  }
  ~Arguments() { fuse_opt_free_args(&args); }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;
};

void ignore_signal(int) {}

// A signal ends a wait only if it has a handler and does not restart the call.
void install_wake_up_signal() {
  struct sigaction action {};
  action.sa_handler = ignore_signal;
  ::sigaction(SIGUSR2, &action, nullptr);
}

}  // namespace

Result<std::unique_ptr<Session>> Session::mount(Filesystem& fs, const SessionOptions& options) {
  fuse_set_log_func(log_line);
  LogListener log;
  bool uring = false;
#if EPOCHFS_FUSE_URING
  uring = fs.options.io_uring && uring_is_enabled();
#endif
  fs.operations = operations();
  const fuse_lowlevel_ops ops = counted(fs.operations);
  Arguments arguments(options, uring);
  fuse_session* session = fuse_session_new(&arguments.args, &ops, sizeof ops, &fs);
  if (!session) return fail("start a FUSE session" + log.reason());
  std::unique_ptr<Session> made(new Session(session));
  fs.session = session;
  note_absent(fs, uring);
  if (fuse_session_mount(session, options.mountpoint.c_str()) != 0) {
    return fail(fmt::format("mount {}{}", options.mountpoint, log.reason()));
  }
  made->mounted_ = true;
  return made;
}

Session::~Session() {
  if (mounted_) fuse_session_unmount(session_);
  fuse_session_destroy(session_);
}

Result<void> Session::run() {
  install_wake_up_signal();
  runner_ = ::pthread_self();
  running_ = true;
  fuse_loop_config* config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, kMaxThreads);
  int result = fuse_session_loop_mt(session_, config);
  fuse_loop_cfg_destroy(config);
  running_ = false;
  if (result < 0) return fail("serve FUSE requests", -result);
  return {};
}

void Session::end() {
  fuse_session_exit(session_);
  // libfuse 3.14 checks whether the session has ended only after its wait is over.
  if (running_) ::pthread_kill(runner_, SIGUSR2);
}

}  // namespace epochfs::fs
