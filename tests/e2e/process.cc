#include "tests/e2e/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cstring>

#include "tests/support/failure.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

using Clock = std::chrono::steady_clock;

int left_ms(Clock::time_point deadline) {
  auto left = std::chrono::duration_cast<Milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : int(left) + 1;
}

struct Pipe {
  UniqueFd read, write;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("make a pipe");
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
};

// What execve takes. Made before the fork: after it, a child of a program with
// several threads may not allocate.
class Image {
 public:
  explicit Image(const Command& command) : argv_(command.argv) {
    auto added = command.environment;
    for (char** entry = environ; *entry; ++entry) {
      std::string text = *entry;
      if (!added.count(text.substr(0, text.find('=')))) environment_.push_back(text);
    }
    for (const auto& [name, text] : added) environment_.push_back(name + "=" + text);
    argv_pointers_ = pointers(argv_);
    environment_pointers_ = pointers(environment_);
  }
  [[noreturn]] void execute() const {
    ::execvpe(argv_pointers_[0], argv_pointers_.data(), environment_pointers_.data());
    ::_exit(127);
  }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> out;
    for (std::string& s : strings) out.push_back(s.data());
    out.push_back(nullptr);
    return out;
  }

  std::vector<std::string> argv_, environment_;
  std::vector<char*> argv_pointers_, environment_pointers_;
};

pid_t start(const Command& command, int out, int err) {
  const Image image(command);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw_errno("start " + as_typed(command));
  if (child > 0) return child;

  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it is gone already
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) ::_exit(127);
  if (!command.directory.empty() && ::chdir(command.directory.c_str()) != 0) ::_exit(127);
  image.execute();
}

// Takes what is there. False: nothing more will come.
bool drain(int fd, std::string& into) {
  char buffer[1 << 16];
  const ssize_t n = ::read(fd, buffer, sizeof buffer);
  if (n > 0) into.append(buffer, size_t(n));
  return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

bool readable(int fd) {
  pollfd watched{fd, POLLIN, 0};
  return ::poll(&watched, 1, 0) > 0;
}

// A descriptor that becomes readable when the process ends.
UniqueFd open_process(pid_t pid) {
  UniqueFd fd(int(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) throw_errno(fmt::format("watch process {}", pid));
  return fd;
}

int as_exit_status(const siginfo_t& info) {
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

// Reaps a child that has ended, or will at once.
int reap(pid_t child) {
  siginfo_t info{};
  while (::waitid(P_PID, id_t(child), &info, WEXITED) != 0) {
    if (errno != EINTR) throw_errno(fmt::format("wait for process {}", child));
  }
  return as_exit_status(info);
}

}  // namespace

std::string as_typed(const Command& command) {
  std::string text;
  for (const auto& [name, value] : command.environment) text += name + "=" + value + " ";
  for (const std::string& argument : command.argv) {
    const bool plain = !argument.empty() && argument.find_first_of(" '\"$\n*") == std::string::npos;
    text += (plain ? argument : "'" + argument + "'") + " ";
  }
  return text;
}

std::optional<int> wait_for_end(pid_t child, Milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  UniqueFd process = open_process(child);
  pollfd watched{process.get(), POLLIN, 0};
  while (::poll(&watched, 1, left_ms(deadline)) <= 0) {
    if (Clock::now() >= deadline) return std::nullopt;
  }
  return reap(child);
}

Outcome run(const Command& command, Milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Outcome outcome;
  std::array<Pipe, 2> pipes;
  std::array<std::string*, 2> texts = {&outcome.out, &outcome.err};
  const pid_t child = start(command, pipes[0].write.get(), pipes[1].write.get());
  for (Pipe& pipe : pipes) pipe.write.reset();
  UniqueFd process = open_process(child);

  for (bool ended = false; !ended;) {
    std::array<pollfd, 3> watched = {{{pipes[0].read.get(), POLLIN, 0},
                                      {pipes[1].read.get(), POLLIN, 0},
                                      {process.get(), POLLIN, 0}}};
    const int ready = ::poll(watched.data(), watched.size(), left_ms(deadline));
    if (ready == 0 && Clock::now() >= deadline) {
      outcome.timed_out = true;
      ::kill(child, SIGKILL);
      break;
    }
    for (size_t i = 0; ready > 0 && i < pipes.size(); ++i) {
      if (watched[i].revents && !drain(watched[i].fd, *texts[i])) pipes[i].read.reset();
    }
    ended = ready > 0 && watched[2].revents && !watched[0].revents && !watched[1].revents;
  }
  outcome.status = reap(child);
  return outcome;
}

Background::Background(const Command& command) : stop_(::eventfd(0, EFD_CLOEXEC)) {
  Pipe pipe;
  pid_ = start(command, pipe.write.get(), pipe.write.get());
  output_ = std::move(pipe.read);
  reader_ = std::thread([this] { read_output(); });
}

Background::~Background() {
  try {
    kill();
  } catch (const Failure& failure) {
    fmt::print(stderr, "{}\n", failure.what());
  }
  ::eventfd_write(stop_.get(), 1);
  reader_.join();
}

bool Background::running() { return !wait(Milliseconds(0)); }

std::optional<int> Background::wait(Milliseconds timeout) {
  if (!status_) status_ = wait_for_end(pid_, timeout);
  return status_;
}

void Background::signal(int number) {
  if (!status_) ::kill(pid_, number);
}

void Background::kill() {
  signal(SIGKILL);
  // In the kernel's hands now; it may have a gigabyte to let go of.
  if (!wait(Milliseconds(60'000))) throw Failure(fmt::format("process {} survives SIGKILL", pid_));
}

void Background::read_output() {
  for (;;) {
    pollfd watched[] = {{output_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(watched, 2, -1) < 0) continue;
    if (watched[1].revents && !readable(output_.get())) break;
    std::string text;
    const bool more = drain(output_.get(), text);
    std::lock_guard lock(mutex_);
    said_ += text;
    output_ended_ = !more;
    more_.notify_all();
    if (!more) break;
  }
}

std::optional<std::string> Background::wait_for_line(const std::string& text,
                                                     Milliseconds timeout) {
  std::optional<std::string> line;
  std::unique_lock lock(mutex_);
  more_.wait_for(lock, timeout, [&] {
    for (size_t begin = 0, end; (end = said_.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      if (std::string candidate = said_.substr(begin, end - begin);
          candidate.find(text) != std::string::npos) {
        line = candidate;
        return true;
      }
    }
    return output_ended_;
  });
  return line;
}

std::string Background::said() const {
  std::lock_guard lock(mutex_);
  return said_;
}

}  // namespace epochfs::testing
