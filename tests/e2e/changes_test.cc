// Does every kind of change arrive when it is the only one of its epoch? Does it cost no more
// on the wire than its net effect?
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <filesystem>
#include <utility>

#include "tests/e2e/odd_trees.h"
#include "tests/e2e/operation.h"
#include "tests/e2e/replica.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/waiting.h"

namespace epochfs::testing {
namespace {

using Kind = Operation::Kind;

struct Change {
  const char* name;
  Operation operation;
};

void PrintTo(const Change& change, std::ostream* out) { *out << describe(change.operation); }

const Change kChanges[] = {
    {"Create", {.kind = Kind::kCreate, .path = "new", .mode = 0640, .length = 5000, .seed = 1}},
    {"CreateEmpty", {.kind = Kind::kCreate, .path = "new", .mode = 0640}},
    {"CreateWithoutName",
     {.kind = Kind::kTemporary, .path = "new", .mode = 0640, .length = 9, .seed = 1}},
    {"MakeDirectory", {.kind = Kind::kMakeDirectory, .path = "new", .mode = 0710}},
    {"MakeFifo", {.kind = Kind::kMakeNode, .path = "new", .mode = S_IFIFO | 0600}},
    {"MakeSymlink", {.kind = Kind::kSymlink, .path = "new", .value = "nowhere"}},
    {"Link", {.kind = Kind::kLink, .path = "file", .path2 = "new"}},
    {"LinkOfASymlink", {.kind = Kind::kLink, .path = "link", .path2 = "new"}},
    {"LinkOfAFifo", {.kind = Kind::kLink, .path = "fifo", .path2 = "new"}},
    {"UnlinkOfAFile", {.kind = Kind::kUnlink, .path = "file"}},
    {"UnlinkOfOneOfTwoNames", {.kind = Kind::kUnlink, .path = "linked"}},
    {"UnlinkOfASymlink", {.kind = Kind::kUnlink, .path = "link"}},
    {"UnlinkOfAFifo", {.kind = Kind::kUnlink, .path = "fifo"}},
    {"RemoveDirectory", {.kind = Kind::kRemoveDirectory, .path = "empty"}},
    {"RenameOfAFile", {.kind = Kind::kRename, .path = "file", .path2 = "new"}},
    {"RenameIntoADirectory", {.kind = Kind::kRename, .path = "file", .path2 = "directory/new"}},
    {"RenameOntoAFile", {.kind = Kind::kRename, .path = "file", .path2 = "linked"}},
    {"RenameOntoASymlink", {.kind = Kind::kRename, .path = "file", .path2 = "link"}},
    {"RenameOfADirectory", {.kind = Kind::kRename, .path = "directory", .path2 = "new"}},
    {"RenameOntoADirectory", {.kind = Kind::kRename, .path = "directory", .path2 = "empty"}},
    {"RenameOfASymlink", {.kind = Kind::kRename, .path = "link", .path2 = "new"}},
    {"RenameOfAFifo", {.kind = Kind::kRename, .path = "fifo", .path2 = "new"}},
    {"ExchangeOfFileAndDirectory",
     {.kind = Kind::kRename, .path = "file", .path2 = "directory", .mode = RENAME_EXCHANGE}},
    {"Write", {.kind = Kind::kWrite, .path = "file", .offset = 3000, .length = 3000, .seed = 1}},
    {"WriteBehindTheEnd",
     {.kind = Kind::kWrite, .path = "file", .offset = 900'000, .length = 9, .seed = 1}},
    {"WriteThroughASecondName",
     {.kind = Kind::kWrite, .path = "linked-too", .length = 9, .seed = 1}},
    {"Append", {.kind = Kind::kAppend, .path = "file", .length = 5000, .seed = 1}},
    {"WriteMapped",
     {.kind = Kind::kMapWrite, .path = "file", .offset = 100, .length = 20'000, .seed = 1}},
    {"Shrink", {.kind = Kind::kTruncate, .path = "file", .length = 1000}},
    {"Empty", {.kind = Kind::kTruncate, .path = "file"}},
    {"Grow", {.kind = Kind::kTruncate, .path = "file", .length = 1'000'000}},
    {"Punch",
     {.kind = Kind::kAllocate,
      .path = "file",
      .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
      .offset = 4096,
      .length = 8192}},
    {"CopyRange",
     {.kind = Kind::kCopyRange,
      .path = "file",
      .path2 = "linked",
      .offset = 10,
      .offset2 = 20,
      .length = 30'000}},
    {"ModeOfAFile", {.kind = Kind::kChangeMode, .path = "file", .mode = 04711}},
    {"ModeOfADirectory", {.kind = Kind::kChangeMode, .path = "directory", .mode = 01700}},
    {"ModeOfAFifo", {.kind = Kind::kChangeMode, .path = "fifo", .mode = 0622}},
    {"ModeOfADevice", {.kind = Kind::kChangeMode, .path = "device", .mode = 0666}},
    {"OwnerOfAFile", {.kind = Kind::kChangeOwner, .path = "file", .uid = 1, .gid = 2}},
    {"OwnerOfADirectory", {.kind = Kind::kChangeOwner, .path = "directory", .uid = 1, .gid = 2}},
    {"OwnerOfASymlink", {.kind = Kind::kChangeOwner, .path = "link", .uid = 1, .gid = 2}},
    {"OwnerOfAFifo", {.kind = Kind::kChangeOwner, .path = "fifo", .uid = 1, .gid = 2}},
    {"TimeOfAFile", {.kind = Kind::kChangeTimes, .path = "file", .seconds = 5, .nanoseconds = 7}},
    {"TimeOfADirectory",
     {.kind = Kind::kChangeTimes, .path = "directory", .seconds = -5, .nanoseconds = 999'999'999}},
    {"TimeOfASymlink", {.kind = Kind::kChangeTimes, .path = "link", .seconds = 5}},
    {"TimeOfAFifo", {.kind = Kind::kChangeTimes, .path = "fifo", .seconds = 5}},
    {"XattrOfAFile", {.kind = Kind::kSetXattr, .path = "file", .name = "user.x", .value = "1"}},
    {"XattrOfADirectory",
     {.kind = Kind::kSetXattr, .path = "directory", .name = "user.x", .value = ""}},
    {"XattrOfASymlink",
     {.kind = Kind::kSetXattr, .path = "link", .name = "trusted.x", .value = "1"}},
    {"XattrOfAFifo", {.kind = Kind::kSetXattr, .path = "fifo", .name = "trusted.x", .value = "1"}},
    {"XattrRemoved", {.kind = Kind::kRemoveXattr, .path = "file", .name = "user.there"}},
    {"ModeOfTheRoot", {.kind = Kind::kChangeMode, .path = "", .mode = 0711}},
    {"TimeOfTheRoot", {.kind = Kind::kChangeTimes, .path = "", .seconds = 5}},
    {"XattrOfTheRoot", {.kind = Kind::kSetXattr, .path = "", .name = "user.x", .value = "1"}},
};

// A tree that all of them can be done to.
void make_small_tree(const std::string& in) {
  write_file(in + "/file", bytes_of(3, 100'000));
  ASSERT_EQ(::setxattr((in + "/file").c_str(), "user.there", "1", 1, 0), 0);
  write_file(in + "/linked", bytes_of(5, 50'000));
  ASSERT_EQ(::link((in + "/linked").c_str(), (in + "/linked-too").c_str()), 0);
  make_directory(in + "/empty");
  make_directory(in + "/directory");
  write_file(in + "/directory/inside", "inside");
  ASSERT_EQ(::symlink("somewhere", (in + "/link").c_str()), 0);
  ASSERT_EQ(::mknod((in + "/fifo").c_str(), S_IFIFO | 0600, 0), 0);
  ASSERT_EQ(::mknod((in + "/device").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
}

class ChangeTest : public TwoHosts, public ::testing::WithParamInterface<Change> {};

TEST_P(ChangeTest, ArrivesByItself) {
  make_small_tree(data());
  establish();
  ASSERT_TRUE(replica().becomes_equal());
  UniqueFd root(::open(data().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(perform(root.get(), GetParam().operation), 0);
  EXPECT_TRUE(replica().becomes_equal(Milliseconds(20'000)));
}

INSTANTIATE_TEST_SUITE_P(Every, ChangeTest, ::testing::ValuesIn(kChanges),
                         [](const auto& info) { return std::string(info.param.name); });

// How much is sent of a change? Of a tree in which a comparison of everything would show: a
// target that is found not to hold what it should is put right, too, but that way.
class CostTest : public TwoHosts {
 protected:
  static constexpr uint64_t kFiles = 1000;
  // Bytes that an epoch takes that changes nothing but the times of some directories.
  static constexpr uint64_t kNothing = 4096;

  void establish_with(const Arguments& options) {
    make_many_files(path("many"), 10, kFiles);
    start_daemons();
    a().mount(data(), options);
    replica().establish();
    ASSERT_TRUE(replica().becomes_equal());
  }
  // As many records as make the mount put a checkpoint in their place.
  void fill_journal() {
    const UniqueFd fd = open_file("busy", O_CREAT);
    for (int i = 0; i < 30'000; ++i) write_to(fd, "busy", 0);
  }

  std::string path(const std::string& name) const { return data() + "/" + name; }
  UniqueFd open_file(const std::string& name, int flags = 0) {
    UniqueFd fd(::open(path(name).c_str(), O_RDWR | O_CLOEXEC | flags, 0640));
    EXPECT_TRUE(fd) << name << ": " << strerror(errno);
    return fd;
  }
  void write_to(const UniqueFd& fd, const std::string& bytes, off_t at) {
    EXPECT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), at), ssize_t(bytes.size()));
  }
  void rename(const std::string& from, const std::string& to) {
    EXPECT_EQ(::rename(path(from).c_str(), path(to).c_str()), 0) << strerror(errno);
  }
  void unlink(const std::string& name) {
    EXPECT_EQ(::unlink(path(name).c_str()), 0) << strerror(errno);
  }

  // Bytes that it took on the wire to replicate what has changed since the last call.
  uint64_t cost() {
    EXPECT_TRUE(replica().becomes_equal());
    const ReplicaStatus now = replica().status();
    EXPECT_LT(now.files_sent - sent_.files_sent, kFiles / 2) << "everything was compared";
    return now.bytes_sent - std::exchange(sent_, now).bytes_sent;
  }
  void forget_cost() { sent_ = replica().status(); }

 private:
  ReplicaStatus sent_;
};

// A file that was made without a name is nowhere on a target until it has one, in whichever
// epoch that is.
class FirstNameTest : public CostTest {
 protected:
  UniqueFd make_nameless(uint64_t seed) {
    UniqueFd fd(::open(data().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0640));
    EXPECT_TRUE(fd) << strerror(errno);
    write_to(fd, bytes_of(seed, 100'000), 0);
    return fd;
  }
  void give_name(const UniqueFd& fd, const std::string& name) {
    EXPECT_EQ(::linkat(AT_FDCWD, proc_path(fd.get()).c_str(), AT_FDCWD, path(name).c_str(),
                       AT_SYMLINK_FOLLOW),
              0)
        << strerror(errno);
  }
};

TEST_F(FirstNameTest, ComesInALaterEpochThanTheFile) {
  establish_with({});
  forget_cost();
  const UniqueFd written = make_nameless(3), untouched = make_nameless(5), twice = make_nameless(7);
  EXPECT_LT(cost(), kNothing);
  write_to(written, bytes_of(9, 1000), 50'000);
  give_name(written, "written");
  give_name(untouched, "untouched");
  give_name(twice, "one");
  give_name(twice, "two");
  EXPECT_LT(cost(), 300'000 + kNothing);
  // From now on it is a file like others.
  write_to(written, bytes_of(9, 1000), 10'000);
  write_to(twice, "again", 100);
  EXPECT_LT(cost(), 1000 + kNothing);
}

TEST_F(FirstNameTest, ComesInALaterEpochThanSeveralOfTheFile) {
  establish_with({});
  forget_cost();
  const UniqueFd fd = make_nameless(3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_LT(cost(), kNothing);
    write_to(fd, bytes_of(7, 1000), i * 30'000);
  }
  EXPECT_LT(cost(), kNothing);
  give_name(fd, "file");
  EXPECT_LT(cost(), 100'000 + kNothing);
}

TEST_F(FirstNameTest, ComesBehindACheckpoint) {
  establish_with({"--journal-quota", "4M"});
  const UniqueFd before = make_nameless(3);
  replica().wait_for_epoch(replica().barrier());
  forget_cost();
  replica().pause();
  const UniqueFd within = make_nameless(5), named_late = make_nameless(7);
  fill_journal();
  write_to(before, bytes_of(7, 1000), 50'000);
  give_name(before, "before");
  give_name(within, "within");
  fill_journal();
  give_name(named_late, "named-late");
  replica().go_on();
  EXPECT_LT(cost(), 300'000 + 2 * kNothing);
}

// The net effect alone is sent, whether it is told by records or by checkpoints.
class NetEffectTest : public CostTest, public ::testing::WithParamInterface<bool> {
 protected:
  void establish() {
    establish_with(checkpoints() ? Arguments{"--journal-quota", "4M"} : Arguments{});
  }
  bool checkpoints() const { return GetParam(); }
  void begin() {
    ASSERT_TRUE(replica().becomes_equal());
    replica().pause();
    forget_cost();
  }
  void in_between() {
    if (checkpoints()) fill_journal();
  }
  uint64_t cost_of_all() {
    in_between();
    replica().go_on();
    return cost();
  }
};

INSTANTIATE_TEST_SUITE_P(Told, NetEffectTest, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "ByCheckpoints" : "ByRecords");
});

TEST_P(NetEffectTest, WhatWasCreatedAndDeletedCostsNothing) {
  establish();
  begin();
  for (int i = 0; i < 5; ++i) {
    write_file(path("short-lived"), bytes_of(3, 1 << 20));
    rename("short-lived", "moved");
    in_between();
    unlink("moved");
  }
  make_many_files(path("tree"), 10, 500);
  in_between();
  std::filesystem::remove_all(path("tree"));
  EXPECT_LT(cost_of_all(), kNothing);
}

TEST_P(NetEffectTest, WhatWasDeletedAndIsStillWrittenCostsNothing) {
  write_file(path("old"), bytes_of(3, 1 << 20));
  establish();
  const UniqueFd fd = open_file("old");
  begin();
  write_to(fd, bytes_of(5, 1 << 20), 0);
  unlink("old");
  in_between();
  EXPECT_LT(cost_of_all(), kNothing);
  // And in every later epoch.
  for (int i = 0; i < 3; ++i) {
    begin();
    write_to(fd, bytes_of(7, 1 << 20), i << 20);
    EXPECT_LT(cost_of_all(), kNothing);
  }
}

TEST_P(NetEffectTest, WhatWasOverwrittenIsSentOnce) {
  write_file(path("file"), bytes_of(3, 10 << 20));
  establish();
  begin();
  constexpr uint64_t kBytes = 64 << 10;
  const UniqueFd fd = open_file("file");
  for (int i = 0; i < 200; ++i) {
    write_to(fd, bytes_of(5 + 2 * i, kBytes), 1 << 20);
    if (i == 100) in_between();
  }
  const uint64_t cost = cost_of_all();
  EXPECT_GE(cost, kBytes);
  EXPECT_LT(cost, kBytes + kNothing);
}

TEST_P(NetEffectTest, WhatWasReplacedManyTimesIsSentOnce) {
  establish();
  begin();
  constexpr uint64_t kBytes = 256 << 10;
  for (int i = 0; i < 20; ++i) {
    write_file(path("file.new"), bytes_of(5 + 2 * i, kBytes));
    rename("file.new", "file");
    if (i == 10) in_between();
  }
  const uint64_t cost = cost_of_all();
  EXPECT_GE(cost, kBytes);
  EXPECT_LT(cost, kBytes + kNothing);
}

TEST_P(NetEffectTest, WhatWasRenamedThereAndBackCostsNothing) {
  establish();
  begin();
  write_file(path("a"), "a");  // so that there is an epoch
  rename("many", "elsewhere");
  in_between();
  rename("elsewhere", "elsewhere-else");
  in_between();
  rename("elsewhere-else", "many");
  EXPECT_LT(cost_of_all(), kNothing);
}

TEST_P(NetEffectTest, ARenamedDirectoryIsOneName) {
  establish();
  begin();
  rename("many", "elsewhere");
  EXPECT_LT(cost_of_all(), kNothing);
}

}  // namespace
}  // namespace epochfs::testing
