#include "journal/control/standard_output.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "journal/control/command_line.h"

namespace epochfs {
namespace {

bool reader_has_gone(int fd) {
  pollfd watched{fd, 0, 0};
  return ::poll(&watched, 1, 0) == 1 && (watched.revents & POLLERR);
}

// `code` is the errno of the write; 0: not known.
int output_failed(int code, int status) {
  if (code == EPIPE || (code == 0 && reader_has_gone(STDOUT_FILENO))) {
    // An event loop of kj ignores the signal. No loop runs any more.
    ::signal(SIGPIPE, SIG_DFL);
    ::raise(SIGPIPE);
  }
  if (status == static_cast<int>(ExitStatus::kFailed)) return status;  // it has said why
  const int failed = report({code != 0 ? "write standard output"
                                       : "write standard output: not all of it could be written",
                             code});
  return status != 0 ? status : failed;
}

}  // namespace

int run_and_flush(const std::function<int()>& command) {
  int status = 0;
  try {
    status = command();
  } catch (const std::system_error& e) {
    if (!std::ferror(stdout) && !std::ferror(stderr)) throw;
    return output_failed(e.code().value(), status);
  }
  if (std::fflush(stdout) != 0) return output_failed(errno, status);
  return std::ferror(stdout) ? output_failed(0, status) : status;
}

void flush_output() {
  if (std::fflush(stdout) != 0) {
    throw std::system_error(errno, std::generic_category(), "write standard output");
  }
}

}  // namespace epochfs
