#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"

#include <dirent.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace epochfs::testing {
namespace {

constexpr int kPatienceMs = 60'000;

std::string type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symlink";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "character device";
    case S_IFBLK: return "block device";
    default: return "?";
  }
}

std::string describe(const struct stat& st) {
  std::string text = fmt::format("{} {:04o} {}:{} links={}", type_of(st.st_mode),
                                 st.st_mode & 07777, st.st_uid, st.st_gid, st.st_nlink);
  if (!S_ISDIR(st.st_mode)) text += fmt::format(" size={}", st.st_size);
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) text += fmt::format(" rdev={}", st.st_rdev);
  return text;
}

std::string summary(std::string_view bytes) {
  constexpr size_t kShown = 200;
  if (bytes.size() <= kShown) return "'" + escape(bytes) + "'";
  return fmt::format("{} bytes with hash {:x}: '{}...'", bytes.size(),
                     std::hash<std::string_view>()(bytes), escape(bytes.substr(0, 32)));
}

// What a child has noted comes through a pipe, a line for each note.
void send(int pipe, const Transcript& lines) {
  for (const std::string& line : lines) {
    const std::string text = escape(line) + "\n";
    if (::write(pipe, text.data(), text.size()) < 0) return;
  }
}

Transcript receive(int pipe) {
  Transcript lines;
  std::string text;
  char buffer[1 << 16];
  for (ssize_t n; (n = ::read(pipe, buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    lines.push_back(text.substr(begin, end - begin));
  }
  return lines;
}

void become(const Who& who) {
  if (::setgroups(who.groups.size(), who.groups.data()) != 0 ||
      ::setresgid(who.gid, who.gid, who.gid) != 0 || ::setresuid(who.uid, who.uid, who.uid) != 0) {
    throw_errno("become another user");
  }
  ::umask(who.umask);
}

// The child's part after the fork; what it has is copied, so nothing may be destroyed.
[[noreturn]] void live_as_child(Place& place, int output, const Who* who,
                                const std::function<void(Place&)>& body) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    if (who) become(*who);
    body(place);
  } catch (const std::exception& failure) {
    place.note("cannot go on", failure.what());
  }
  send(output, place.transcript());
  ::_exit(0);
}

std::string describe_end(int status) {
  return WIFSIGNALED(status) ? std::string("killed by ") + sigabbrev_np(WTERMSIG(status))
                             : fmt::format("exit status {}", WEXITSTATUS(status));
}

void make_pipe(UniqueFd& read, UniqueFd& write) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("make a pipe");
  read.reset(ends[0]);
  write.reset(ends[1]);
}

}  // namespace

Who alice() { return {.uid = kAlice, .gid = kAlice}; }
Who bob() { return {.uid = kBob, .gid = kBob}; }
Who alice_of_the_team() { return {.uid = kAlice, .gid = kAlice, .groups = {kTeam}}; }

std::string name_of_errno(int error) {
  const char* name = ::strerrorname_np(error);
  return name ? name : std::to_string(error);
}

// ---- writing down ----

Place::Place(std::string directory) : directory_(std::move(directory)) {
  root_.reset(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_) throw_errno("open " + directory_);
}

std::string Place::operator/(std::string_view name) const {
  return directory_ + "/" + std::string(name);
}

void Place::note(const std::string& label, std::string_view seen) {
  transcript_.push_back(label + ": " + std::string(seen));
}

int64_t Place::call(const std::string& label, int64_t result) {
  const int error = errno;
  note(label, result < 0 ? name_of_errno(error) : std::to_string(result));
  errno = error;
  return result;
}

UniqueFd Place::open(const std::string& name, int flags, mode_t mode) {
  return opened(fmt::format("open {} {:o} {:o}", escape(name), flags, mode),
                ::openat(root(), name.c_str(), flags | O_CLOEXEC, mode));
}

UniqueFd Place::opened(const std::string& label, int fd) {
  note(label, fd < 0 ? name_of_errno(errno) : "opened");
  return UniqueFd(fd < 0 ? -1 : fd);
}

void Place::stat(const std::string& name) {
  struct stat st;
  const bool there = ::fstatat(root(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
  note("stat " + escape(name), there ? describe(st) : name_of_errno(errno));
}

void Place::fstat(const std::string& label, int fd) {
  struct stat st;
  const bool there = ::fstat(fd, &st) == 0;
  note("fstat " + label, there ? describe(st) : name_of_errno(errno));
}

void Place::read(const std::string& name) {
  UniqueFd fd(::openat(root(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return note("read " + escape(name), name_of_errno(errno));
  struct stat st {};
  ::fstat(fd.get(), &st);
  read_fd(escape(name), fd.get(), 0, size_t(st.st_size) + 1);
}

void Place::read_fd(const std::string& label, int fd, off_t offset, size_t size) {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(fd, bytes.data() + done, size - done, offset + off_t(done));
    if (n < 0) return note("read " + label, name_of_errno(errno));
    if (n == 0) break;
    done += size_t(n);
  }
  bytes.resize(done);
  note("read " + label, summary(bytes));
}

void Place::xattrs(const std::string& name) {
  const std::string path = *this / name;
  char names[1 << 16], value[1 << 16];
  const ssize_t size = ::llistxattr(path.c_str(), names, sizeof names);
  if (size < 0) return note("xattrs " + escape(name), name_of_errno(errno));
  std::map<std::string, std::string> found;
  for (const char* at = names; at < names + size; at += std::strlen(at) + 1) {
    const ssize_t n = ::lgetxattr(path.c_str(), at, value, sizeof value);
    found[at] = n < 0 ? name_of_errno(errno) : summary({value, size_t(n)});
  }
  std::string text;
  for (const auto& [key, shown] : found) text += key + "=" + shown + " ";
  note("xattrs " + escape(name), text);
}

void Place::list(const std::string& name) {
  UniqueFd fd(::openat(root(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return note("list " + escape(name), name_of_errno(errno));
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd.release()), ::closedir);
  std::vector<std::string> entries;
  while (dirent* entry = dir ? ::readdir(dir.get()) : nullptr) {
    struct stat st {};
    ::fstatat(::dirfd(dir.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
    const bool dots = entry->d_name[0] == '.' && std::strlen(entry->d_name) <= 2;
    entries.push_back(fmt::format("{} ({}{})", escape(entry->d_name),
                                  type_of(mode_t(DTTOIF(entry->d_type))),
                                  dots || st.st_ino == entry->d_ino ? "" : ", another inode"));
  }
  std::sort(entries.begin(), entries.end());
  note("list " + escape(name), summary(fmt::format("{}", fmt::join(entries, ", "))));
}

void Place::times(const std::string& label, const std::string& name,
                  const std::function<void()>& operation) {
  const timespec past[2] = {{.tv_sec = 1'000'000'000, .tv_nsec = 1},
                            {.tv_sec = 1'000'000'001, .tv_nsec = 2}};
  ::utimensat(root(), name.c_str(), past, AT_SYMLINK_NOFOLLOW);
  struct stat before {
  }, after{};
  ::fstatat(root(), name.c_str(), &before, AT_SYMLINK_NOFOLLOW);
  let_clock_tick();
  operation();
  ::fstatat(root(), name.c_str(), &after, AT_SYMLINK_NOFOLLOW);
  auto moved = [](const timespec& a, const timespec& b) {
    return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
  };
  note("times moved by " + label,
       fmt::format("{}{}{}", moved(before.st_atim, after.st_atim) ? "a" : "-",
                   moved(before.st_mtim, after.st_mtim) ? "m" : "-",
                   moved(before.st_ctim, after.st_ctim) ? "c" : "-"));
}

// ---- preparing ----

void Place::make(const std::string& name, std::string_view bytes, mode_t mode) {
  UniqueFd fd(::openat(root(), name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) throw_errno("make " + name);
  if (::write(fd.get(), bytes.data(), bytes.size()) != ssize_t(bytes.size())) {
    throw_errno("write " + name);
  }
  if (::fchmod(fd.get(), mode) != 0) throw_errno("chmod " + name);
}

void Place::make_directory(const std::string& name, mode_t mode) {
  if (::mkdirat(root(), name.c_str(), mode) != 0 ||
      ::fchmodat(root(), name.c_str(), mode, 0) != 0) {
    throw_errno("make directory " + name);
  }
}

void Place::own(const std::string& name, uid_t uid, gid_t gid) {
  struct stat st;
  if (::fstatat(root(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 ||
      ::fchownat(root(), name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0 ||
      (!S_ISLNK(st.st_mode) && ::fchmodat(root(), name.c_str(), st.st_mode & 07777, 0) != 0)) {
    throw_errno("give away " + name);
  }
}

// ---- other processes ----

void Place::as(const Who& who, const std::function<void(Place&)>& body) { run_child(&who, body); }
void Place::in_child(const std::function<void(Place&)>& body) { run_child(nullptr, body); }

void Place::run_child(const Who* who, const std::function<void(Place&)>& body) {
  UniqueFd output, input;
  make_pipe(output, input);
  const pid_t child = ::fork();
  if (child < 0) throw_errno("fork");
  if (child == 0) {
    transcript_.clear();
    live_as_child(*this, input.get(), who, body);
  }
  input.reset();
  const Transcript lines = receive(output.get());
  int status = 0;
  ::waitpid(child, &status, 0);
  const std::string prefix = who ? fmt::format("as {}: ", who->uid) : "in a child: ";
  for (const std::string& line : lines) transcript_.push_back(prefix + line);
  if (status != 0) note(prefix + "end", describe_end(status));
}

void Turns::wait() {
  pollfd watched{end_.get(), POLLIN, 0};
  char byte;
  if (::poll(&watched, 1, kPatienceMs) <= 0 || ::read(end_.get(), &byte, 1) != 1) {
    throw Failure("the other process does not take its turn");
  }
}

void Turns::pass() {
  if (::send(end_.get(), "x", 1, MSG_NOSIGNAL) != 1) throw Failure("the other process has ended");
}

Beside::Beside(Place& place, const std::function<void(Place&, Turns&)>& body) : place_(place) {
  UniqueFd input;
  make_pipe(output_, input);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw_errno("socketpair");
  UniqueFd ours(ends[0]), theirs(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0) throw_errno("fork");
  if (pid_ == 0) {
    ours.reset();
    Turns turns(std::move(theirs));
    Place own(place.directory());
    live_as_child(own, input.get(), nullptr, [&](Place& p) { body(p, turns); });
  }
  turns_ = std::make_unique<Turns>(std::move(ours));
}

Beside::~Beside() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Beside::turn() {
  pass();
  wait();
}

void Beside::finish() {
  for (const std::string& line : receive(output_.get())) place_.note("beside", line);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  if (status != 0) place_.note("beside", describe_end(status));
}

void let_clock_tick() {
  timespec start, now;
  ::clock_gettime(CLOCK_REALTIME_COARSE, &start);
  do {
    const timespec moment{.tv_sec = 0, .tv_nsec = 500'000};
    ::nanosleep(&moment, nullptr);
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (now.tv_sec == start.tv_sec && now.tv_nsec == start.tv_nsec);
}

::testing::AssertionResult same_transcript(const Transcript& plain, const Transcript& mounted) {
  auto line = [](const Transcript& lines, size_t i) {
    return i < lines.size() ? lines[i] : std::string("(nothing more)");
  };
  for (size_t i = 0; i < std::max(plain.size(), mounted.size()); ++i) {
    if (line(plain, i) == line(mounted, i)) continue;
    return ::testing::AssertionFailure()
           << "line " << i + 1 << " differs\n  plain directory: " << line(plain, i)
           << "\n  mount:           " << line(mounted, i);
  }
  return ::testing::AssertionSuccess();
}

// ---- the fixture ----

std::unique_ptr<Host> PosixTest::host_;

void PosixTest::SetUpTestSuite() {
  if (Host::why_not()) return;
  host_ = std::make_unique<Host>("posix");
  host_->make_directory("plain");
  host_->make_directory("mounted");
  const char* options = std::getenv("EPOCHFS_MOUNT_OPTIONS");
  host_->mount(mounted(), options ? Arguments{"-o", options} : Arguments{});
}

void PosixTest::TearDownTestSuite() { host_.reset(); }

void PosixTest::SetUp() {
  if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
}

Transcript PosixTest::run(Case body, const std::string& parent) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string path = parent + "/" + test->name();
  const mode_t before = ::umask(022);
  make_directory(path);
  Place place(path);
  body(place);
  ::umask(before);
  return place.transcript();
}

void PosixTest::compare(Case body) {
  const Transcript beneath = run(body, plain());
  const Transcript above = run(body, mounted());
  EXPECT_FALSE(beneath.empty()) << "the case saw nothing";
  EXPECT_TRUE(same_transcript(beneath, above));
  if (::testing::Test::HasFailure() && std::getenv("EPOCHFS_TRANSCRIPTS")) {
    for (const std::string& line : beneath) fmt::print("plain    {}\n", line);
    for (const std::string& line : above) fmt::print("mounted  {}\n", line);
  }
}

}  // namespace epochfs::testing
