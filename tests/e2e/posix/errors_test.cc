// What do applications see when the disk beneath is full, their quota is used up, or the file
// system is read-only? Does the mount go on, with a journal that agrees with the tree?
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/e2e/disk.h"
#include "tests/e2e/posix/posix.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/tree.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

constexpr uint64_t kDiskBytes = 32 << 20;

// Writes until nothing goes any more. Which write fails may depend on what the kernel has
// gathered; that one does, and how, does not.
void fill(Place& p, const std::string& name) {
  UniqueFd fd = p.open(name, O_RDWR | O_CREAT);
  const std::string block(64 << 10, 'f');
  int error = 0;
  for (int i = 0; i < 100'000 && error == 0; ++i) {
    if (::write(fd.get(), block.data(), block.size()) < 0) error = errno;
  }
  for (size_t size = 32 << 10; size >= 512; size /= 2) {
    while (::write(fd.get(), block.data(), size) > 0) {
    }
  }
  p.note("filled until", name_of_errno(error));
  p.call("fsync", ::fsync(fd.get()));
}

// Everything that takes room, on a disk without any.
void try_all(Place& p) {
  UniqueFd fd = p.open("small", O_RDWR);
  p.call("write in the middle", ::pwrite(fd.get(), "x", 1, 1 << 20));
  p.call("overwrite", ::pwrite(fd.get(), "x", 1, 0));
  p.call("allocate", ::fallocate(fd.get(), 0, 0, 1 << 20));
  p.call("extend by a hole", ::ftruncate(fd.get(), 1 << 20));
  UniqueFd from = p.open("source", O_RDONLY);
  off_t in = 0, out = 512 << 10;
  p.call("copy", ::copy_file_range(from.get(), &in, fd.get(), &out, 65536, 0));
  p.call("truncate", ::ftruncate(fd.get(), 0));
  p.read("small");
}

class Errors : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = Host::why_not()) GTEST_SKIP() << *reason;
    if (auto reason = Disk::why_not("mkfs.ext4")) GTEST_SKIP() << *reason;
    host_ = std::make_unique<Host>("errors");
  }

  std::vector<std::string> ext4() const { return {"mkfs.ext4", "-q", "-F", "-N", "512"}; }
  std::vector<std::string> ext4_with_quota() const {
    return {"mkfs.ext4", "-q", "-F", "-O", "quota", "-E", "quotatype=usrquota", "-N", "512"};
  }

  // On two disks of its own: they must be equally full.
  void compare_on_disks(Case body) {
    Transcript seen[2];
    for (int mounted = 0; mounted < 2; ++mounted) {
      Disk disk(host_->folder(), mounted ? "disk-m" : "disk-p", kDiskBytes, ext4(), "");
      const std::string data = disk.path() + "/data";
      make_directory(data);
      if (mounted) host_->mount(data);
      {
        Place place(data);
        body(place);
        seen[mounted] = place.transcript();
      }
      if (mounted) {
        expect_journal_and_tree_agree(data);
        host_->unmount(data);
      }
    }
    EXPECT_TRUE(same_transcript(seen[0], seen[1]));
  }

  // The mount still answers, records what comes, and shows what lies beneath.
  void expect_journal_and_tree_agree(const std::string& data) {
    const TreeSnapshot above = snapshot(data);
    host_->unmount(data);
    EXPECT_TRUE(same_tree(snapshot(data), above));
    host_->mount(data);
    for (const char* name : {"/filler", "/open/filler"}) ::unlink((data + name).c_str());
    // A removed file's room is there once the kernel has forgotten the file.
    UniqueFd after(::open((data + "/after").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    eventually("there is room again", [&] { return ::pwrite(after.get(), "on", 2, 0) == 2; });
    const Outcome list = host_->epochfs({"journal", "list", data});
    EXPECT_EQ(list.status, 0) << list.err;
    EXPECT_NE(list.out.find("after"), std::string::npos);
    const Outcome barrier = host_->epochfs({"barrier", data});
    EXPECT_EQ(barrier.status, 0) << barrier.err;
  }

  std::unique_ptr<Host> host_;
};

TEST_F(Errors, NoSpace) {
  compare_on_disks([](Place& place) {
    place.make("small", "content");
    place.make("source", std::string(65536, 's'));
    fill(place, "filler");
    try_all(place);
    // Inodes come to an end too.
    int error = 0;
    for (int i = 0; i < 2000 && error == 0; ++i) {
      if (::mknodat(place.root(), fmt::format("n{}", i).c_str(), S_IFREG, 0) != 0) error = errno;
    }
    place.note("no more inodes", name_of_errno(error));
    place.open("one-more", O_WRONLY | O_CREAT);
    place.call("mkdir", ::mkdirat(place.root(), "dir", 0755));
    place.call("symlink", ::symlinkat("x", place.root(), "link"));
    place.call("unlink", ::unlinkat(place.root(), "filler", 0));
    place.call("unlink", ::unlinkat(place.root(), "n0", 0));
    place.call("unlink", ::unlinkat(place.root(), "n1", 0));
    place.open("one-more", O_WRONLY | O_CREAT);
    place.read("source");
  });
}

// What the file system keeps for root is not an ordinary user's, through the mount either.
TEST_F(Errors, WhatIsReservedForRoot) {
  compare_on_disks([](Place& place) {
    place.make_directory("open", 0777);
    place.as(alice(), [](Place& p) {
      fill(p, "open/filler");
      p.open("open/other", O_WRONLY | O_CREAT);
    });
    struct statvfs st {};
    ::statvfs(place.directory().c_str(), &st);
    place.note("left for ordinary users", int64_t(st.f_bavail));
    place.note("left for root", st.f_bfree > 100);
    UniqueFd fd = place.open("of-root", O_WRONLY | O_CREAT);
    place.call("write", ::write(fd.get(), std::string(65536, 'r').data(), 65536));
    place.call("fsync", ::fsync(fd.get()));
  });
}

TEST_F(Errors, NoSpaceUnderASharedMapping) {
  compare_on_disks([](Place& place) {
    UniqueFd fd = place.open("mapped", O_RDWR | O_CREAT);
    place.call("allocate", ::fallocate(fd.get(), 0, 0, 65536));
    fill(place, "filler");
    void* at = ::mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (at == MAP_FAILED) throw_errno("mmap");
    std::fill_n(static_cast<char*>(at), 65536, 'm');
    place.call("msync", ::msync(at, 65536, MS_SYNC));
    ::munmap(at, 65536);
    place.read("mapped");
  });
}

void set_quota(const Disk& disk, uint64_t kilobytes, uint64_t inodes) {
  dqblk limits{};
  limits.dqb_bhardlimit = limits.dqb_bsoftlimit = kilobytes;
  limits.dqb_ihardlimit = limits.dqb_isoftlimit = inodes;
  limits.dqb_valid = QIF_LIMITS;
  if (::quotactl(QCMD(Q_SETQUOTA, USRQUOTA), disk.device().c_str(), kAlice,
                 reinterpret_cast<caddr_t>(&limits)) != 0) {
    throw_errno("set quota");
  }
}

TEST_F(Errors, QuotaIsUsedUp) {
  Transcript seen[2];
  for (int mounted = 0; mounted < 2; ++mounted) {
    std::unique_ptr<Disk> disk;
    try {
      disk = std::make_unique<Disk>(host_->folder(), mounted ? "quota-m" : "quota-p", kDiskBytes,
                                    ext4_with_quota(), "usrquota");
      set_quota(*disk, 1024, 10);
    } catch (const Failure& failure) {
      GTEST_SKIP() << "no quotas of users here: " << failure.what();
    }
    const std::string data = disk->path() + "/data";
    make_directory(data);
    if (mounted) host_->mount(data);
    {
      Place place(data);
      place.make("small", "content");
      place.own("small", kAlice, kAlice);
      place.make("source", std::string(65536, 's'));
      place.make_directory("open", 0777);
      place.as(alice(), [](Place& p) {
        fill(p, "open/filler");
        try_all(p);
        int error = 0;
        for (int i = 0; i < 100 && error == 0; ++i) {
          if (::mknodat(p.root(), fmt::format("open/n{}", i).c_str(), S_IFREG, 0) != 0) {
            error = errno;
          }
        }
        p.note("no more inodes", name_of_errno(error));
        p.call("mkdir", ::mkdirat(p.root(), "open/dir", 0755));
        p.call("symlink", ::symlinkat("x", p.root(), "open/link"));
        p.opened("tmpfile", ::openat(p.root(), "open", O_TMPFILE | O_RDWR, 0600));
        p.call("unlink", ::unlinkat(p.root(), "open/n0", 0));
        p.call("mkdir", ::mkdirat(p.root(), "open/dir", 0755));
      });
      place.as(bob(), [](Place& p) {
        UniqueFd fd = p.open("open/of-bob", O_WRONLY | O_CREAT);
        p.call("write", ::write(fd.get(), std::string(65536, 'b').data(), 65536));
      });
      UniqueFd fd = place.open("open/filler", O_WRONLY | O_APPEND);
      place.call("root writes to it", ::write(fd.get(), std::string(65536, 'r').data(), 65536));
      seen[mounted] = place.transcript();
    }
    if (mounted) {
      expect_journal_and_tree_agree(data);
      host_->unmount(data);
    }
  }
  EXPECT_TRUE(same_transcript(seen[0], seen[1]));
}

// A quota that is not a user's but a subvolume's, on a kernel with or without the former.
TEST_F(Errors, QuotaOfASubvolumeIsUsedUp) {
  for (const char* tool : {"mkfs.btrfs", "btrfs"}) {
    if (auto reason = Disk::why_not(tool)) GTEST_SKIP() << *reason;
  }
  Transcript seen[2];
  for (int mounted = 0; mounted < 2; ++mounted) {
    Disk disk(host_->folder(), mounted ? "btrfs-m" : "btrfs-p", 256 << 20, {"mkfs.btrfs", "-q"},
              "");
    const std::string data = disk.path() + "/data";
    for (const Command& command : {
             Command{{"btrfs", "quota", "enable", disk.path()}},
             Command{{"btrfs", "subvolume", "create", data}},
             Command{{"btrfs", "qgroup", "limit", "8M", data}},
         }) {
      const Outcome outcome = testing::run(command, Milliseconds(60'000));
      if (outcome.status != 0) GTEST_SKIP() << "no quotas of btrfs here: " << outcome.err;
    }
    if (mounted) host_->mount(data);
    {
      Place place(data);
      UniqueFd fd = place.open("filler", O_RDWR | O_CREAT);
      const std::string block(64 << 10, 'f');
      int error = 0;
      for (int i = 0; i < 1000 && error == 0; ++i) {
        if (::write(fd.get(), block.data(), block.size()) < 0) error = errno;
      }
      place.note("filled until", name_of_errno(error));
      place.call("allocate", ::fallocate(fd.get(), 0, 100 << 20, 1 << 20));
      place.call("overwrite", ::pwrite(fd.get(), block.data(), block.size(), 0));
      place.call("fsync", ::fsync(fd.get()));
      seen[mounted] = place.transcript();
    }
    if (mounted) host_->unmount(data);
  }
  EXPECT_TRUE(same_transcript(seen[0], seen[1]));
}

// Made read-only under the mount, as a file system does itself after errors.
TEST_F(Errors, ReadOnly) {
  Transcript seen[2];
  for (int mounted = 0; mounted < 2; ++mounted) {
    Disk disk(host_->folder(), mounted ? "ro-m" : "ro-p", kDiskBytes, ext4(), "");
    const std::string data = disk.path() + "/data";
    make_directory(data);
    if (mounted) host_->mount(data);
    {
      Place place(data);
      place.make("small", "content");
      place.make("source", "source");
      // A close comes to the mount a moment later, and a writer would be in the way.
      eventually("no file is open for writing any more", [&] { return disk.remount("ro"); });
      place.read("small");
      place.list(".");
      place.open("new", O_WRONLY | O_CREAT);
      UniqueFd fd = place.open("small", O_RDONLY);
      place.call("mkdir", ::mkdirat(place.root(), "dir", 0755));
      place.call("mkdir onto", ::mkdirat(place.root(), "small", 0755));
      place.call("symlink", ::symlinkat("x", place.root(), "link"));
      place.call("link", ::linkat(place.root(), "small", place.root(), "link", 0));
      place.call("rename", ::renameat(place.root(), "small", place.root(), "renamed"));
      place.call("unlink", ::unlinkat(place.root(), "small", 0));
      place.call("chmod", ::fchmodat(place.root(), "small", 0600, 0));
      place.call("chown", ::fchownat(place.root(), "small", kAlice, kAlice, 0));
      place.call("times", ::utimensat(place.root(), "small", nullptr, 0));
      place.call("truncate", ::truncate((place / "small").c_str(), 0));
      place.call("setxattr", ::setxattr((place / "small").c_str(), "user.a", "b", 1, 0));
      place.call("removexattr", ::removexattr((place / "small").c_str(), "user.a"));
      place.opened("tmpfile", ::openat(place.root(), ".", O_TMPFILE | O_RDWR, 0600));
      place.open("small", O_WRONLY);
      place.open("small", O_RDWR | O_TRUNC);
      place.stat("small");
      fd.reset();
      if (!disk.remount("rw")) throw_errno("remount");
      place.open("new", O_WRONLY | O_CREAT);
      place.list(".");
      seen[mounted] = place.transcript();
    }
    if (mounted) {
      expect_journal_and_tree_agree(data);
      host_->unmount(data);
    }
  }
  EXPECT_TRUE(same_transcript(seen[0], seen[1]));
}

}  // namespace
}  // namespace epochfs::testing
