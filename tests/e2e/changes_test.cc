// Does every kind of change arrive when it is the only one of its epoch?
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/e2e/files.h"
#include "tests/e2e/operation.h"
#include "tests/e2e/replica.h"

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
    {"CreateWithoutName", {.kind = Kind::kTemporary, .path = "new", .mode = 0640, .length = 9,
                           .seed = 1}},
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
    {"ExchangeOfFileAndDirectory", {.kind = Kind::kRename, .path = "file", .path2 = "directory",
                                    .mode = RENAME_EXCHANGE}},
    {"Write", {.kind = Kind::kWrite, .path = "file", .offset = 3000, .length = 3000, .seed = 1}},
    {"WriteBehindTheEnd", {.kind = Kind::kWrite, .path = "file", .offset = 900'000, .length = 9,
                           .seed = 1}},
    {"WriteThroughASecondName", {.kind = Kind::kWrite, .path = "linked-too", .length = 9,
                                 .seed = 1}},
    {"Append", {.kind = Kind::kAppend, .path = "file", .length = 5000, .seed = 1}},
    {"WriteMapped", {.kind = Kind::kMapWrite, .path = "file", .offset = 100, .length = 20'000,
                     .seed = 1}},
    {"Shrink", {.kind = Kind::kTruncate, .path = "file", .length = 1000}},
    {"Empty", {.kind = Kind::kTruncate, .path = "file"}},
    {"Grow", {.kind = Kind::kTruncate, .path = "file", .length = 1'000'000}},
    {"Punch", {.kind = Kind::kAllocate, .path = "file",
               .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, .offset = 4096,
               .length = 8192}},
    {"CopyRange", {.kind = Kind::kCopyRange, .path = "file", .path2 = "linked", .offset = 10,
                   .offset2 = 20, .length = 30'000}},
    {"ModeOfAFile", {.kind = Kind::kChangeMode, .path = "file", .mode = 04711}},
    {"ModeOfADirectory", {.kind = Kind::kChangeMode, .path = "directory", .mode = 01700}},
    {"ModeOfAFifo", {.kind = Kind::kChangeMode, .path = "fifo", .mode = 0622}},
    {"ModeOfADevice", {.kind = Kind::kChangeMode, .path = "device", .mode = 0666}},
    {"OwnerOfAFile", {.kind = Kind::kChangeOwner, .path = "file", .uid = 1, .gid = 2}},
    {"OwnerOfADirectory", {.kind = Kind::kChangeOwner, .path = "directory", .uid = 1, .gid = 2}},
    {"OwnerOfASymlink", {.kind = Kind::kChangeOwner, .path = "link", .uid = 1, .gid = 2}},
    {"OwnerOfAFifo", {.kind = Kind::kChangeOwner, .path = "fifo", .uid = 1, .gid = 2}},
    {"TimeOfAFile", {.kind = Kind::kChangeTimes, .path = "file", .seconds = 5, .nanoseconds = 7}},
    {"TimeOfADirectory", {.kind = Kind::kChangeTimes, .path = "directory", .seconds = -5,
                          .nanoseconds = 999'999'999}},
    {"TimeOfASymlink", {.kind = Kind::kChangeTimes, .path = "link", .seconds = 5}},
    {"TimeOfAFifo", {.kind = Kind::kChangeTimes, .path = "fifo", .seconds = 5}},
    {"XattrOfAFile", {.kind = Kind::kSetXattr, .path = "file", .name = "user.x", .value = "1"}},
    {"XattrOfADirectory", {.kind = Kind::kSetXattr, .path = "directory", .name = "user.x",
                           .value = ""}},
    {"XattrOfASymlink", {.kind = Kind::kSetXattr, .path = "link", .name = "trusted.x",
                         .value = "1"}},
    {"XattrOfAFifo", {.kind = Kind::kSetXattr, .path = "fifo", .name = "trusted.x",
                      .value = "1"}},
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

}  // namespace
}  // namespace epochfs::testing
