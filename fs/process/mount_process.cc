#include "fs/process/mount_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "fs/base/mounts.h"
#include "fs/base/privileges.h"
#include "fs/housekeeping/suspects.h"
#include "journal/changes/change_set.h"
#include "journal/log/reader.h"
#include "journal/volume/cursors.h"

namespace epochfs::fs {
namespace {

// ---- what can be checked beforehand ----

Result<void> check_machine(const std::string& dir) {
  if (!is_privileged()) {
    if (::geteuid() != 0) return {};  // fusermount3 opens the device and mounts
    return fail(fmt::format("mount {}: root lacks CAP_SYS_ADMIN or CAP_DAC_READ_SEARCH here; run "
                            "it outside of the container",
                            dir),
                EPERM);
  }
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) {
    return fail_errno("open /dev/fuse; load the kernel's module with: modprobe fuse");
  }
  return {};
}

// A process that was killed leaves its mount behind, which answers nothing any more.
Result<void> clear_stale_mounts(const std::string& path) {
  for (;;) {
    EPOCHFS_TRY(auto mount, mount_at(path));
    if (!mount || mount->type != kMountType) return {};
    auto journal = journal::journal_path_of(path);
    if (journal || !says_mount_is_gone(journal.error().code)) return {};
    if (int error = unmount_path(path, true); error != 0) {
      return fail("clear the stale mount of " + path, -error);
    }
  }
}

// The process that has locked an open file; 0: unknown. A line of /proc/locks reads
// "1: FLOCK  ADVISORY  WRITE 9573 fe:00:1130498 0 EOF".
int flock_holder(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return 0;
  const std::string file =
      fmt::format("{:02x}:{:02x}:{}", major(st.st_dev), minor(st.st_dev), st.st_ino);
  std::ifstream in("/proc/locks");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string number, kind, strength, access, where;
    int pid = 0;
    if (words >> number >> kind >> strength >> access >> pid >> where && kind == "FLOCK" &&
        where == file) {
      return pid;
    }
  }
  return 0;
}

Error already_mounted(const std::string& dir, int pid) {
  const std::string by = pid > 0 ? fmt::format(" by process {}", pid) : "";
  return {.what = fmt::format("mount {}: it is already mounted{}; unmount it first with: epochfs "
                              "unmount {}",
                              dir, by, dir)};
}

Result<void> check_not_mounted(const std::string& path) {
  auto journal = journal::journal_path_of(path);
  EPOCHFS_TRY(auto mount, mount_at(path));
  if (!journal || !mount || mount->type != kMountType) return {};
  auto volume = journal::Volume::open(*journal);
  auto pid = volume ? volume->holder() : Result<int>(0);
  return tl::unexpected(already_mounted(path, pid ? *pid : 0));
}

Result<std::string> existing_directory(const std::string& given) {
  auto path = canonical_path(given);
  if (!path) {
    return fail(fmt::format("mount {}: there is no such directory; make it first", given),
                path.error().code);
  }
  EPOCHFS_DO(clear_stale_mounts(*path));
  struct stat st;
  if (::stat(path->c_str(), &st) != 0) return fail_errno("mount " + *path);
  if (!S_ISDIR(st.st_mode)) {
    return fail(fmt::format("mount {}: it is not a directory; name one", given), ENOTDIR);
  }
  return *path;
}

// A journal in its own volume would record its own growth.
Result<void> check_outside(const std::string& what, const std::string& path, const Backing& backing,
                           const std::string& mountpoint) {
  EPOCHFS_TRY(UniqueFd dir, open_directory(mountpoint));
  if (!lies_within(path, backing.root.fd()) && !lies_within(path, dir.get())) return {};
  return fail(fmt::format("mount {}: {} {} lies inside of it; name another place with --{}",
                          mountpoint, what, path, what));
}

// ---- the volume ----

// Small enough that a quota has room for many, where there is one.
uint64_t segment_bytes_for(uint64_t quota) {
  if (quota == 0) return journal::kDefaultSegmentBytes;
  constexpr uint64_t least = 1 << 20;
  return std::clamp(std::bit_floor(quota / 16), least, journal::kDefaultSegmentBytes);
}

Result<void> check_quota(uint64_t quota, uint64_t segment_bytes) {
  const uint64_t least = kMinQuotaSegments * segment_bytes;
  if (quota == 0 || quota >= least) return {};
  return fail(
      fmt::format("mount option journal-quota: {} bytes are too few for this journal, whose "
                  "segments have {} MiB; give it {}M at least",
                  quota, segment_bytes >> 20, least >> 20),
      0, ExitStatus::kUsage);
}

journal::VolumeInfo new_volume(const journal::VolumeIdentity& identity, const std::string& backing,
                               uint64_t quota) {
  return {.lineage = Uuid::random(),
          .identity = identity,
          .created_ns = now_ns(),
          .segment_bytes = segment_bytes_for(quota),
          .backing_path = backing};
}

Result<journal::Volume> volume_below(const std::string& state,
                                     const journal::VolumeIdentity& identity,
                                     const std::string& backing, uint64_t quota) {
  if (auto made = journal::prepare_state_dir(Storage::system(), state); !made) {
    if (made.error().code != EACCES) return tl::unexpected(made.error());
    return fail(fmt::format("mount {}: {}; name a state directory of your own with --state, or run "
                            "it as root",
                            backing, made.error().message()),
                0, ExitStatus::kNotAuthorized);
  }
  EPOCHFS_TRY(auto found, journal::find_volume(state, identity));
  if (found) return *std::move(found);
  const journal::VolumeInfo info = new_volume(identity, backing, quota);
  return journal::Volume::create(
      Storage::system(), fmt::format("{}/volumes/{}", state, info.lineage.to_string()), info);
}

Result<journal::Volume> volume_at(const std::string& path, const journal::VolumeIdentity& identity,
                                  const std::string& backing, uint64_t quota) {
  struct stat st;
  if (::stat((path + "/" + journal::kVolumeFile).c_str(), &st) == 0) {
    EPOCHFS_TRY(journal::Volume volume, journal::Volume::open(path));
    if (volume.info().identity == identity) return volume;
    return fail(
        fmt::format("open journal {}: it belongs to another directory, once {}; name "
                    "another folder with --journal",
                    path, volume.info().backing_path));
  }
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_empty(path, error)) {
    return fail(
        fmt::format("open journal {}: it is no journal, and not empty; name another folder "
                    "with --journal",
                    path));
  }
  return journal::Volume::create(Storage::system(), path, new_volume(identity, backing, quota));
}

// Each open file of the mount's is one of the process's.
void raise_descriptor_limit() {
  rlimit limit{};
  std::ifstream in("/proc/sys/fs/nr_open");
  if (!(in >> limit.rlim_max)) limit.rlim_max = 1 << 20;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * uint64_t(::sysconf(_SC_PAGESIZE));
}

MountUsage usage_of(const Filesystem& fs) {
  std::error_code ignored;
  const auto begin = std::filesystem::directory_iterator("/proc/self/fd", ignored);
  return {.inodes = fs.inodes.size(),
          .open_files = fs.files.size() + fs.directories.size(),
          .descriptors = uint64_t(std::distance(begin, std::filesystem::directory_iterator())),
          .descriptor_limit = uint64_t(fs.descriptor_limit),
          .resident_bytes = resident_bytes(),
          .awake = fs.idle_latency.held()};
}

void note_idle_latency(Filesystem& fs) {
  if (const std::string& why = fs.idle_latency.unavailable(); !why.empty()) {
    fs.missing.push_back("wakeup: idle cores are not kept awake: " + why);
  } else {
    fs.features.push_back(fs.options.wakeup == WakeupMode::kAlways ? "wakeup=always"
                                                                   : "wakeup=adaptive");
  }
}

// ---- signals ----

// Calls `leave` when somebody asks the process to end. The signals must be blocked in
// every thread.
class SignalWatch {
 public:
  static sigset_t signals() {
    sigset_t set;
    ::sigemptyset(&set);
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
    return set;
  }

  explicit SignalWatch(std::function<void()> leave)
      : signals_(make_signal_fd()), stop_(::eventfd(0, EFD_CLOEXEC)), leave_(std::move(leave)) {
    EPOCHFS_CHECK(signals_ && stop_);
    thread_ = std::thread([this] { watch(); });
  }
  ~SignalWatch() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
  }

 private:
  static UniqueFd make_signal_fd() {
    const sigset_t set = signals();
    return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
  }

  void watch() {
    for (;;) {
      pollfd fds[] = {{signals_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
      if (::poll(fds, 2, -1) < 0) continue;
      if (fds[1].revents) return;
      signalfd_siginfo info;
      if (::read(signals_.get(), &info, sizeof info) == sizeof info) leave_();
    }
  }

  UniqueFd signals_, stop_;
  std::function<void()> leave_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<MountProcess>> MountProcess::prepare(const MountRequest& request) {
  // Threads take the mask over from whoever starts them, the journal's among them.
  const sigset_t signals = SignalWatch::signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  std::unique_ptr<MountProcess> process(new MountProcess);
  EPOCHFS_DO(check_machine(request.dir));
  EPOCHFS_TRY(process->mountpoint_, existing_directory(request.dir));
  EPOCHFS_DO(check_not_mounted(process->mountpoint_));
  std::string backing = process->mountpoint_;
  if (!request.backing.empty()) {
    EPOCHFS_TRY(backing, existing_directory(request.backing));
  }
  EPOCHFS_TRY(process->backing_, open_backing(backing));
  EPOCHFS_TRY(process->identity_, journal::identify_volume(process->backing_.root.fd()));
  process->options_ = request.options;
  EPOCHFS_DO(process->open_volume(request));
  raise_descriptor_limit();
  EPOCHFS_DO(process->open_journal());
  return process;
}

MountProcess::~MountProcess() = default;

Result<void> MountProcess::open_volume(const MountRequest& request) {
  const bool named = !request.journal.empty();
  const std::string& place = named ? request.journal : request.state;
  EPOCHFS_DO(check_outside(named ? "journal" : "state", place, backing_, mountpoint_));
  // Before anything is made: another process may have it mounted with another journal.
  EPOCHFS_TRY(directory_lock_, open_directory(proc_path(backing_.root.fd())));
  if (::flock(directory_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return tl::unexpected(already_mounted(mountpoint_, flock_holder(directory_lock_.get())));
  }
  const uint64_t quota = options_.housekeeping.quota_bytes;
  EPOCHFS_DO(check_quota(quota, segment_bytes_for(quota)));
  EPOCHFS_TRY(journal::Volume volume, named ? volume_at(place, identity_, backing_.path, quota)
                                            : volume_below(place, identity_, backing_.path, quota));
  EPOCHFS_DO(check_quota(quota, volume.info().segment_bytes));
  EPOCHFS_TRY(bool locked, volume.lock());
  if (!locked) {
    EPOCHFS_TRY(int pid, volume.holder());
    return tl::unexpected(already_mounted(mountpoint_, pid));
  }
  volume_ = std::move(volume);
  return {};
}

Result<void> MountProcess::open_journal() {
  const int root = backing_.root.fd();
  auto lookup = [root](const FileHandle& parent, std::string_view name) {
    journal::NamedFile file;
    UniqueFd dir(open_handle(root, parent, O_PATH | O_DIRECTORY));
    struct statx a;
    if (dir && identify(dir.get(), std::string(name).c_str(), a, file.handle) == 0) {
      file.id = file_id(a);
      return file;
    }
    return journal::NamedFile{};
  };
  journal::SuspectMarker marker;
  if (is_privileged()) {  // others open nothing by handle
    marker = [root](const FileId& file, const FileHandle& handle) {
      return file ? give_new_ctime(root, file, handle) : give_all_new_ctimes(root);
    };
  }
  EPOCHFS_TRY(journal_,
              journal::Journal::open(Storage::system(), *volume_, lookup, recovery_, marker));
  EPOCHFS_TRY(pins_, Pins::create(*volume_, root));
  EPOCHFS_TRY(checkpoints_, journal::Checkpoints::open(Storage::system(), *volume_, &damage_));
  EPOCHFS_DO(restore_dirty_state());
  EPOCHFS_TRY(auto last, journal::read_last_epoch(volume_->dir()));
  recorder_ = std::make_unique<Recorder>(*journal_, barrier_, *pins_, root, last);
  settler_ = std::make_unique<Settler>(Storage::system(), *journal_, root);
  housekeeper_ = std::make_unique<Housekeeper>(*volume_, root, *journal_, *recorder_, *pins_,
                                               *checkpoints_, *settler_, options_.housekeeping);
  filesystem_ = std::make_unique<Filesystem>(backing_.root, volume_->path(), *recorder_, options_);
  return {};
}

// Pins need to know what has changed since the oldest epoch that somebody may still ask
// changes for; where nobody does, since the last one.
Result<void> MountProcess::restore_dirty_state() {
  EPOCHFS_TRY(auto newest, journal::read_last_epoch(volume_->dir()));
  auto cursors = journal::read_cursors(volume_->dir());
  // One that nobody can read may stand anywhere: then all counts as dirty until the first
  // seal, and the housekeeper says which it is.
  if (!cursors && cursors.error().status == ExitStatus::kCorrupt) return {};
  if (!cursors) return tl::unexpected(cursors.error());
  const EpochId newest_epoch = newest ? newest->epoch : EpochId{0};
  const EpochId since =
      std::min(journal::oldest_epoch(*cursors).value_or(newest_epoch), newest_epoch);
  std::vector<journal::CheckpointPtr> checkpoints;
  for (const journal::CheckpointPtr& c : checkpoints_->all()) {
    if (c->info().last > since) checkpoints.push_back(c);
  }
  // Changes up to there are in checkpoints; those behind it in records.
  EpochId folded = checkpoints.empty() ? since : checkpoints.back()->info().last;
  const EpochId known_since =
      checkpoints.empty() ? since : EpochId{value(checkpoints.front()->info().first) - 1};
  EPOCHFS_TRY(auto sealed, journal::read_epoch(volume_->dir(), folded));
  const Lsn from = sealed ? sealed->seal : Lsn{0};

  journal::Fold fold;
  journal::JournalReader reader(*volume_);
  EPOCHFS_DO(reader.read(from, [&](const journal::Record& record) {
    if (record.lsn > from) fold.add(record);
    return true;
  }));
  journal::ChangeSet changes = fold.finish();
  EPOCHFS_TRY(Lsn oldest, reader.oldest());
  if (value(from) != 0 && oldest > from) changes.gap = true;  // not all of it is there
  pins_->restore(checkpoints, changes, known_since);
  return {};
}

Result<void> MountProcess::serve(const std::function<void(const MountProcess&)>& ready) {
  auto served = run(ready);
  // Every worker has ended, so what they did is in the journal.
  auto closed = settler_->settle();
  if (closed) closed = journal_->close();
  return served ? closed : served;
}

Result<void> MountProcess::run(const std::function<void(const MountProcess&)>& ready) {
  const bool privileged = is_privileged();
  const SessionOptions options{
      .mountpoint = mountpoint_,
      .source = backing_.path,
      .others = privileged,
      .suid = privileged && options_.suid && !(backing_.flags & ST_NOSUID),
      .dev = privileged && options_.dev && !(backing_.flags & ST_NODEV),
      .exec = options_.exec && !(backing_.flags & ST_NOEXEC),
      .read_only = (backing_.flags & ST_RDONLY) != 0,
  };
  EPOCHFS_TRY(session_, Session::mount(*filesystem_, options));
  // The mount must not hold what it was called from.
  if (::chdir("/") != 0) return fail_errno("change directory to /");
  Result<void> usable;
  std::thread starter([&] {
    usable = become_usable();
    return usable ? ready(*this) : leave();
  });
  Result<void> served;
  {
    SignalWatch watch([this] { leave(); });
    served = session_->run();
  }
  // Ends what still waits for an answer of the mount, in the other threads too.
  session_.reset();
  starter.join();
  control_.reset();
  housekeeper_.reset();
  return usable ? served : usable;
}

// The first request has to be answered before anything is said to work.
Result<void> MountProcess::become_usable() {
  struct stat st;
  if (::stat(mountpoint_.c_str(), &st) != 0) return fail_errno("mount " + mountpoint_);
  Filesystem& fs = *filesystem_;
  EPOCHFS_CHECK(fs.negotiated);
  device_ = st.st_dev;
  const bool explained = std::any_of(fs.missing.begin(), fs.missing.end(), [](const auto& line) {
    return line.starts_with("io_uring:");
  });
  if (fs.uring_seen) {
    fs.features.push_back("io_uring");
  } else if (!explained) {
    fs.missing.push_back("io_uring: the kernel or libfuse could not start it");
  }
  note_idle_latency(fs);
  if (fs.by_descriptor) {
    for (std::string& line : what_users_go_without(fs.descriptor_limit)) {
      fs.missing.push_back(std::move(line));
    }
  }
  return start_control();
}

Result<void> MountProcess::start_control() {
  Filesystem& fs = *filesystem_;
  ControlledMount mount{
      .mountpoint = mountpoint_,
      .backing_path = backing_.path,
      .backing_dir = fs.backing.get(),
      .volume = *volume_,
      .journal = *journal_,
      .barrier = barrier_,
      .pins = *pins_,
      .recorder = *recorder_,
      .housekeeper = *housekeeper_,
      .flush_mappings =
          [this, &fs] {
            if (fs.shared_mappings.nodes() == 0) return Result<void>();
            const Recorder::LetPass pages(*recorder_);
            return fs.shared_mappings.flush(mountpoint_, fs.journal_path);
          },
      .features = [&fs] { return fs.features; },
      .missing = [&fs] { return fs.missing; },
      .usage = [&fs] { return usage_of(fs); },
      .mounted_ns = now_ns(),
  };
  EPOCHFS_TRY(control_, ControlServer::start(std::move(mount)));
  housekeeper_->start();
  return {};
}

// Something else may have been mounted over it.
bool MountProcess::is_our_mount() const {
  struct stat st;
  return ::stat(mountpoint_.c_str(), &st) == 0 && st.st_dev == device_;
}

// Asked to end. Unmounting writes dirty pages, which the workers still take in; where
// the mount is in use, pages are written first and the mount is then taken away.
void MountProcess::leave() {
  housekeeper_->stop_blocking();
  if (is_our_mount()) {
    if (unmount_path(mountpoint_, false) == 0) return;
    (void)filesystem_->shared_mappings.flush(mountpoint_, filesystem_->journal_path);
    (void)unmount_path(mountpoint_, true);
  }
  session_->end();
}

}  // namespace epochfs::fs
