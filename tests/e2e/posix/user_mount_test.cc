// Can an ordinary user mount a directory of their own, through fusermount3, and what do
// they see there?
#include <fmt/format.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr Milliseconds kPatience{60'000};

class UserMount : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    const Outcome found =
        testing::run({.argv = {"sh", "-c", "command -v fusermount3 setpriv"}}, kPatience);
    if (found.status != 0) GTEST_SKIP() << "there is no fusermount3 or setpriv";
    const passwd* nobody = ::getpwnam("nobody");  // fusermount3 wants a user with a name
    if (!nobody) GTEST_SKIP() << "there is no user nobody";
    user_ = {.uid = nobody->pw_uid, .gid = nobody->pw_gid};
    host_ = std::make_unique<Host>("user");
    let_users_open_fuse();
    for (const char* name : {"home", "home/plain", "home/mounted"}) {
      const std::string path = host_->make_directory(name);
      if (::chown(path.c_str(), user_.uid, user_.gid) != 0) throw_errno("chown " + path);
    }
    // The program may lie where only root can reach.
    program_ = *host_ / "epochfs";
    testing::write_file(program_, read_whole_file(std::getenv("EPOCHFS_PROGRAM")));
    if (::chmod(program_.c_str(), 0755) != 0) throw_errno("chmod " + program_);
  }
  void TearDown() override {
    if (host_ && !mountpoints_below(mounted()).empty()) by_user({program_, "unmount", mounted()});
  }

  // Everywhere but on some test machines they can. Seen by this process only.
  void let_users_open_fuse() {
    struct stat st {};
    if (::stat("/dev/fuse", &st) != 0 || (st.st_mode & 0006) == 0006) return;
    const std::string node = *host_ / "fuse";
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mknod(node.c_str(), S_IFCHR | 0666, st.st_rdev) != 0 ||
        ::chmod(node.c_str(), 0666) != 0 ||
        ::mount(node.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) != 0) {
      throw_errno("let users open /dev/fuse");
    }
  }

  std::string plain() const { return *host_ / "home/plain"; }
  std::string mounted() const { return *host_ / "home/mounted"; }

  Outcome by_user(std::vector<std::string> argv) const {
    std::vector<std::string> all = {
        "setpriv",       "--reuid", std::to_string(user_.uid), "--regid", std::to_string(user_.gid),
        "--clear-groups"};
    all.insert(all.end(), argv.begin(), argv.end());
    return testing::run(
        {.argv = all, .environment = {{"HOME", *host_ / "home"}, {"XDG_STATE_HOME", ""}}},
        kPatience);
  }
  void mount() {
    const Outcome outcome = by_user({program_, "mount", mounted()});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    said_ = outcome.err;
  }
  void unmount() {
    const Outcome outcome = by_user({program_, "unmount", mounted()});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_TRUE(mountpoints_below(mounted()).empty());
  }
  // Seen by the user: root itself cannot look into their mount.
  Transcript seen_in(const std::string& directory, const std::function<void(Place&)>& body) const {
    Place outside(*host_ / "home");
    outside.as(user_, [&](Place& p) {
      Place own(directory);
      body(own);
      for (const std::string& line : own.transcript()) p.note("user", line);
    });
    return outside.transcript();
  }

  Who user_;
  std::unique_ptr<Host> host_;
  std::string program_, said_;
};

void do_what_users_do(Place& p) {
  p.make("file", "content");
  p.stat("file");
  p.call("link", ::linkat(p.root(), "file", p.root(), "link", 0));
  p.call("symlink", ::symlinkat("file", p.root(), "symlink"));
  p.call("link of a symlink", ::linkat(p.root(), "symlink", p.root(), "symlink2", 0));
  p.call("mkfifo", ::mkfifoat(p.root(), "fifo", 0644));
  p.make_directory("dir", 0700);
  p.call("rename", ::renameat(p.root(), "link", p.root(), "dir/moved"));
  p.call("setxattr", ::setxattr((p / "file").c_str(), "user.k", "v", 1, 0));
  p.call("trusted", ::setxattr((p / "file").c_str(), "trusted.k", "v", 1, 0));
  p.xattrs("file");
  p.call("chmod", ::fchmodat(p.root(), "file", 0400, 0));
  p.open("file", O_RDWR);
  p.call("chown to root", ::fchownat(p.root(), "file", 0, 0, 0));
  const timespec times[2] = {{1, 2}, {3, 4}};
  p.call("times", ::utimensat(p.root(), "file", times, 0));
  UniqueFd fd = p.open("open", O_RDWR | O_CREAT, 0);
  p.call("write", ::write(fd.get(), "through", 7));
  p.call("unlink", ::unlinkat(p.root(), "open", 0));
  p.read_fd("unlinked", fd.get(), 0, 100);
  p.call("truncate", ::ftruncate(fd.get(), 3));
  p.fstat("unlinked", fd.get());
  fd = p.opened("tmpfile", ::openat(p.root(), "dir", O_TMPFILE | O_RDWR, 0600));
  p.call("write", ::write(fd.get(), "nameless", 8));
  p.call("name", ::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd.get())).c_str(), p.root(),
                          "dir/named", AT_SYMLINK_FOLLOW));
  p.read("dir/named");
  p.call("allocate", ::fallocate(fd.get(), 0, 0, 10'000));
  p.call("set-id", ::fchmodat(p.root(), "dir/named", 06755, 0));
  p.call("write", ::pwrite(fd.get(), "x", 1, 0));
  p.stat("dir/named");
  for (int i = 0; i < 3000; ++i) p.make(fmt::format("dir/n{}", i), "x");
  p.list("dir");
  for (int i = 0; i < 3000; ++i) ::unlinkat(p.root(), fmt::format("dir/n{}", i).c_str(), 0);
  p.list("dir");
  p.list(".");
  p.open("/root/x", O_WRONLY | O_CREAT);
}

TEST_F(UserMount, ShowsTheUserTheSame) {
  const Transcript beneath = seen_in(plain(), do_what_users_do);
  mount();
  if (HasFatalFailure()) return;
  EXPECT_TRUE(same_transcript(beneath, seen_in(mounted(), do_what_users_do)));
  unmount();
}

TEST_F(UserMount, SaysWhatItGoesWithoutAndKeepsItsStateAtHome) {
  mount();
  if (HasFatalFailure()) return;
  for (const char* words : {"other users", "replication", "set-user-id"}) {
    EXPECT_NE(said_.find(words), std::string::npos) << said_;
  }
  EXPECT_EQ(::access((*host_ / "home/.local/state/epochfs/volumes").c_str(), F_OK), 0);
  EXPECT_NE(by_user({program_, "mount", "--help"}).out.find("Without root"), std::string::npos);
  unmount();
}

TEST_F(UserMount, JournalsAndCutsEpochs) {
  mount();
  if (HasFatalFailure()) return;
  EXPECT_EQ(by_user({"touch", mounted() + "/recorded"}).status, 0);
  const Outcome list = by_user({program_, "journal", "list", mounted()});
  EXPECT_EQ(list.status, 0) << list.err;
  EXPECT_NE(list.out.find("recorded"), std::string::npos) << list.out;
  const Outcome barrier = by_user({program_, "barrier", mounted()});
  EXPECT_EQ(barrier.status, 0) << barrier.err;
  unmount();
}

TEST_F(UserMount, ABusyUnmountSaysWhoUsesIt) {
  mount();
  if (HasFatalFailure()) return;
  Background user({.argv = {"setpriv", "--reuid", std::to_string(user_.uid), "--regid",
                            std::to_string(user_.gid), "--clear-groups", "sh", "-c",
                            "cd " + mounted() + " && echo there && exec sleep 1000"}});
  ASSERT_TRUE(user.wait_for_line("there", kPatience)) << user.said();
  const Outcome busy = by_user({program_, "unmount", mounted()});
  EXPECT_EQ(busy.status, 1);
  EXPECT_NE(busy.err.find(fmt::format("process {}", user.pid())), std::string::npos) << busy.err;
  user.kill();
  unmount();
}

TEST_F(UserMount, AStaleMountpointIsClearedByTheNextMount) {
  mount();
  if (HasFatalFailure()) return;
  const Outcome kill = by_user(
      {"sh", "-c", "kill -9 $(cat " + (*host_ / "home") + "/.local/state/epochfs/volumes/*/lock)"});
  ASSERT_EQ(kill.status, 0) << kill.err;
  eventually("the mount is dead", [&] {
    return by_user({"stat", mounted() + "/x"}).err.find("not connected") != std::string::npos;
  });
  mount();
  if (HasFatalFailure()) return;
  EXPECT_EQ(by_user({"touch", mounted() + "/again"}).status, 0);
  unmount();
}

TEST_F(UserMount, NotOfADirectoryOfOthers) {
  const std::string other = host_->make_directory("of-root");
  const Outcome outcome = by_user({program_, "mount", other});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find(other), std::string::npos) << outcome.err;
  EXPECT_TRUE(mountpoints_below(other).empty());
}

}  // namespace
}  // namespace epochfs::testing
