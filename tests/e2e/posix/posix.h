// Posix: can an application tell the mount from the directory beneath?
//
// A case is a function that does what applications do in a directory and writes down
// what it sees. It runs twice: in a plain directory and in a mount over its sibling on
// the same file system. The two transcripts must be equal, line by line. What cannot be
// the same in two places (inode numbers, device, the clock) is written down as a
// relation: the same as before, moved on.
//
// EPOCHFS_MOUNT_OPTIONS may name options for the mount, and TMPDIR another file system;
// with EPOCHFS_TRANSCRIPTS set, a case that fails prints both transcripts.
//
// Cases of one test program share a mount and have directories of their own in it. Where
// FUSE itself cannot match, the case is in limits_test.cc instead, with the reason.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/e2e/host.h"

namespace epochfs::testing {

using Transcript = std::vector<std::string>;

// Somebody who is not root, in no group but those named.
struct Who {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups = {};
  mode_t umask = 022;
};
constexpr uid_t kAlice = 61001, kBob = 61002;  // nobody's on a machine that runs tests
constexpr gid_t kTeam = 61100;
Who alice();
Who bob();
Who alice_of_the_team();

// "EACCES", or a number for an unknown one.
std::string name_of_errno(int error);

// Where a case runs, and what it sees there.
class Place {
 public:
  explicit Place(std::string directory);

  std::string operator/(std::string_view name) const;
  const std::string& directory() const { return directory_; }
  int root() const { return root_.get(); }  // the directory, open

  // ---- writing down ----

  void note(const std::string& label, std::string_view seen);
  void note(const std::string& label, int64_t seen) { note(label, std::to_string(seen)); }
  // The result of a system call with its errno, which must not have changed since.
  // Returns the result.
  int64_t call(const std::string& label, int64_t result);
  // Opens below the directory and notes whether that worked.
  UniqueFd open(const std::string& name, int flags, mode_t mode = 0644);
  // The same for a descriptor that the caller got otherwise.
  UniqueFd opened(const std::string& label, int fd);
  // Type, mode, owner, links, size. Links are not followed.
  void stat(const std::string& name);
  void fstat(const std::string& label, int fd);
  void read(const std::string& name);
  void read_fd(const std::string& label, int fd, off_t offset, size_t size);
  void xattrs(const std::string& name);
  void list(const std::string& name);
  // Which of a file's times `operation` moves. They lie in the past before.
  void times(const std::string& label, const std::string& name,
             const std::function<void()>& operation);
  const Transcript& transcript() const { return transcript_; }

  // ---- preparing; nothing is noted, and all throw Failure ----

  void make(const std::string& name, std::string_view bytes = "", mode_t mode = 0644);
  void make_directory(const std::string& name, mode_t mode = 0755);
  void own(const std::string& name, uid_t uid, gid_t gid);  // keeps the mode

  // ---- other processes ----

  // Runs `body` as somebody else, in a process of its own, to its end; what it notes is
  // noted here. A signal that ends it is noted too.
  void as(const Who& who, const std::function<void(Place&)>& body);
  void in_child(const std::function<void(Place&)>& body);

 private:
  void run_child(const Who* who, const std::function<void(Place&)>& body);

  std::string directory_;
  UniqueFd root_;
  Transcript transcript_;
};

// Two processes that do one thing after the other.
class Turns {
 public:
  explicit Turns(UniqueFd end) : end_(std::move(end)) {}
  // Throws Failure when the other has ended, or does not come for a long time.
  void wait();
  void pass();

 private:
  UniqueFd end_;
};

// A second process beside the case: `body` runs in it and waits for its turns. The case
// gives them with turns(). finish() notes what the process noted.
class Beside {
 public:
  Beside(Place& place, const std::function<void(Place&, Turns&)>& body);
  ~Beside();
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;

  pid_t pid() const { return pid_; }
  // Passes the turn to the process, and waits until it passes it back.
  void turn();
  void pass() { turns_->pass(); }
  void wait() { turns_->wait(); }
  void finish();

 private:
  Place& place_;
  pid_t pid_ = -1;
  UniqueFd output_;
  std::unique_ptr<Turns> turns_;
};

// Returns once the clock that file times are taken from has moved on.
void let_clock_tick();

// For EXPECT_TRUE: prints the first line that differs.
::testing::AssertionResult same_transcript(const Transcript& plain, const Transcript& mounted);

using Case = void (*)(Place&);

// A machine with a plain directory and a mount on one file system, for all tests of a
// test program.
class PosixTest : public ::testing::Test {
 public:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

 protected:
  void SetUp() override;

  static Host& host() { return *host_; }
  static std::string plain() { return *host_ / "plain"; }
  static std::string mounted() { return *host_ / "mounted"; }
  // What the case saw below `parent`.
  static Transcript run(Case body, const std::string& parent);
  // Runs the case in both, and expects the same.
  static void compare(Case body);

 private:
  static std::unique_ptr<Host> host_;
};

// POSIX_CASE(Family, Name) { place.call("mkdir", ::mkdir(...)); }
#define POSIX_CASE(family, name)                                 \
  static void family##_##name(::epochfs::testing::Place& place); \
  TEST_F(family, name) { compare(family##_##name); }             \
  static void family##_##name([[maybe_unused]] ::epochfs::testing::Place& place)

}  // namespace epochfs::testing
