#include "fs/process/mount_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <thread>

#include "fs/base/mounts.h"
#include "fs/base/privileges.h"
#include "fs/housekeeping/suspects.h"
#include "fs/process/preflight.h"
#include "fs/process/signal_watch.h"
#include "fs/process/usage.h"
#include "fs/process/volume_of_mount.h"
#include "fs/recording/dirty_state.h"
#include "journal/base/clock.h"
#include "journal/base/limits.h"

namespace epochfs::fs {
namespace {

void note_idle_latency(Filesystem& fs) {
  if (const std::string& why = fs.idle_latency.unavailable(); !why.empty()) {
    fs.missing.push_back("wakeup: idle cores are not kept awake: " + why);
  } else {
    fs.features.push_back(fs.options.wakeup == WakeupMode::kAlways ? "wakeup=always"
                                                                   : "wakeup=adaptive");
  }
}

}  // namespace

Result<std::unique_ptr<MountProcess>> MountProcess::prepare(const MountRequest& request) {
  std::unique_ptr<MountProcess> process(new MountProcess);
  ::signal(SIGPIPE, SIG_IGN);
  allow_large_files();
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
  const JournalPlace place{request.state, request.journal};
  if (place.is_named()) {
    EPOCHFS_DO(check_outside("journal", place.journal, backing_, mountpoint_));
  } else {
    EPOCHFS_DO(check_outside("state", place.state, backing_, mountpoint_));
  }
  // Before anything is made: another process may have mounted the directory with another journal.
  EPOCHFS_TRY(directory_lock_, lock_directory(backing_, mountpoint_));
  EPOCHFS_TRY(journal::Volume volume,
              volume_of_mount(place, identity_, backing_.path, options_.housekeeping.quota_bytes));
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
  if (is_privileged()) {  // without root, nothing opens by handle
    marker = [root](const FileId& file, const FileHandle& handle) {
      return file ? give_new_ctime(root, file, handle) : give_all_new_ctimes(root);
    };
  }
  EPOCHFS_TRY(journal_,
              journal::Journal::open(Storage::system(), *volume_, lookup, recovery_, marker));
  EPOCHFS_TRY(pins_, Pins::create(*volume_, root));
  EPOCHFS_TRY(checkpoints_, journal::Checkpoints::open(Storage::system(), *volume_, &damage_));
  EPOCHFS_DO(restore_dirty_state(*volume_, *checkpoints_, *pins_));
  EPOCHFS_TRY(auto last, journal::read_last_epoch(volume_->dir()));
  recorder_ = std::make_unique<Recorder>(*journal_, barrier_, *pins_, root, last);
  settler_ = std::make_unique<Settler>(Storage::system(), *journal_, root);
  housekeeper_ = std::make_unique<Housekeeper>(*volume_, root, *journal_, *recorder_, *pins_,
                                               *checkpoints_, *settler_, options_.housekeeping);
  filesystem_ = std::make_unique<Filesystem>(backing_.root, volume_->path(), *recorder_, options_);
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
  // The mount must not keep the directory busy from which it was called.
  if (::chdir("/") != 0) return fail_errno("change directory to /");
  Result<void> usable;
  std::thread starter([&] {
    usable = become_usable();
    return usable ? ready(*this) : leave();
  });
  Result<void> served;
  {
    SignalWatch watch(signals_, [this] { leave(); });
    served = session_->run();
  }
  // Also ends what still waits for the mount's answer in other threads.
  session_.reset();
  starter.join();
  control_.reset();
  housekeeper_.reset();
  return usable ? served : usable;
}

// A first request must be answered before the mount counts as usable.
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

// Another file system may have been mounted over it.
bool MountProcess::is_our_mount() const {
  struct stat st;
  return ::stat(mountpoint_.c_str(), &st) == 0 && st.st_dev == device_;
}

// Ends the mount. Unmounting writes dirty pages, which the workers still take in. If the mount is
// in use, pages are written first, and then the mount is detached.
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
