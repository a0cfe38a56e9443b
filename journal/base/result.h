// Result: how does a function report an expected failure?
//
// An error names verb and object, and keeps the errno of the system call that failed:
// `append segment 0007: No space left on device`. A broken invariant is not an error: it aborts,
// in release builds too (EPOCHFS_CHECK).
#pragma once

#include <cerrno>
#include <string>
#include <tl/expected.hpp>

namespace epochfs {

// The exit statuses of every epochfs command.
enum class ExitStatus : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kPartial = 3,
  kNoMatch = 4,
  kCorrupt = 5,
  kUnreachable = 6,
  kNotAuthorized = 7,
  kTimedOut = 8,
};

struct Error {
  std::string what;                         // "verb object", and a remedy where there is one
  int code = 0;                             // errno; 0 if no system call failed
  ExitStatus status = ExitStatus::kFailed;  // of a command that ends with this error

  std::string message() const;  // what; then ": " and strerror(code), if code is set
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(std::string what, int code = 0,
                                  ExitStatus status = ExitStatus::kFailed) {
  return tl::unexpected(Error{std::move(what), code, status});
}
// Takes the code from errno, which must be that of the call just made.
inline tl::unexpected<Error> fail_errno(std::string what) {
  int code = errno;
  return fail(std::move(what), code);
}

[[noreturn]] void broken_invariant(const char* condition, const char* file, int line);

}  // namespace epochfs

#define EPOCHFS_CHECK(condition) \
  ((condition) ? void() : ::epochfs::broken_invariant(#condition, __FILE__, __LINE__))

#define EPOCHFS_JOIN_(a, b) a##b
#define EPOCHFS_JOIN(a, b) EPOCHFS_JOIN_(a, b)

// EPOCHFS_TRY(auto x, f()): returns f's error from the calling function, or puts its value in x.
#define EPOCHFS_TRY(declaration, expression) \
  EPOCHFS_TRY_(declaration, expression, EPOCHFS_JOIN(result_, __LINE__))
#define EPOCHFS_TRY_(declaration, expression, name)            \
  auto name = (expression);                                    \
  if (!name) return ::tl::unexpected(std::move(name).error()); \
  declaration = *std::move(name)

// EPOCHFS_DO(f()): the same for Result<void>.
#define EPOCHFS_DO(expression)                              \
  do {                                                      \
    if (auto outcome_ = (expression); !outcome_)            \
      return ::tl::unexpected(std::move(outcome_).error()); \
  } while (0)
