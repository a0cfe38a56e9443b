// Pins: is what a sealed epoch held still readable, whatever happens to the files?
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/unit/fs/recording/pins_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;

TEST_F(PinsTest, NothingIsSavedWithoutAPin) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "hello");
  pins_->seal(EpochId{1});
  write("a", 0, "J");
  auto pin = seal_and_pin(0, 2);
  EXPECT_EQ(pin->log_bytes(), 0u);
}

// Cost only where somebody still reads.
TEST_F(PinsTest, WhatTheReaderHasPassedIsNotSaved) {
  for (const char* name : {"a", "b", "c"}) create(name, std::string(8192, name[0]));
  std::vector<Touched> files = {touch("a", kNone), touch("b", kNone), touch("c", kNone)};
  std::sort(files.begin(), files.end(), [](auto& a, auto& b) { return a.id < b.id; });
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  pin->passed(files[1].id, 4096);
  pin->passed(files[0].id, 8192);  // late, and says nothing new
  for (const char* name : {"a", "b", "c"}) write(name, 0, std::string(8192, 'x'));
  ASSERT_TRUE(reader->refresh());
  EXPECT_EQ(reader->attributes(files[0].id), nullptr);
  EXPECT_EQ(reader->saved(files[0].id), nullptr);
  ASSERT_NE(reader->saved(files[1].id), nullptr);
  EXPECT_EQ(reader->saved(files[1].id)->bytes(), 4096u);
  EXPECT_TRUE(reader->saved(files[1].id)->touches({4096, 8192}));
  EXPECT_EQ(reader->saved(files[2].id)->bytes(), 8192u);
}

TEST_F(PinsTest, OverwriteAfterTheSeal) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "hello world");
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  write("a", 0, "J");
  write("a", 6, "W");
  write("a", 0, "K");
  EXPECT_EQ(read("a"), "Kello World");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "hello world");
}

TEST_F(PinsTest, AnExtentIsSavedOnce) {
  pins_->restore({}, {}, EpochId{0});
  create("a", std::string(8192, 'a'));
  auto pin = seal_and_pin(0, 1);
  write("a", 0, std::string(4096, 'b'));
  const uint64_t once = pin->log_bytes();
  for (int i = 0; i < 10; ++i) write("a", 0, std::string(4096, char('c' + i)));
  EXPECT_EQ(pin->log_bytes(), once);
}

TEST_F(PinsTest, CleanFilesCostNothing) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "aaaa");
  pins_->seal(EpochId{1});
  create("b", "bbbb");
  auto pin = seal_and_pin(1, 2);
  write("a", 0, "x");  // clean in (1, 2]
  EXPECT_EQ(pin->log_bytes(), 0u);
  write("b", 0, "x");
  EXPECT_NE(pin->log_bytes(), 0u);
}

TEST_F(PinsTest, CleanBytesOfADirtyFileAreNotSaved) {
  pins_->restore({}, {}, EpochId{0});
  create("a", std::string(1 << 20, 'a'));
  pins_->seal(EpochId{1});
  write("a", 0, "dirty");
  auto pin = seal_and_pin(1, 2);
  write("a", 4096, std::string(1 << 19, 'x'));
  EXPECT_LT(pin->log_bytes(), 4096u);
}

TEST_F(PinsTest, AppendsAreNotSaved) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "1234");
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  write("a", 4, std::string(1 << 20, 'x'));
  EXPECT_LT(pin->log_bytes(), 4096u);
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "1234");
}

TEST_F(PinsTest, TruncateAndExtendAfterTheSeal) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "0123456789");
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  truncate("a", 3);
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "0123456789");
  truncate("a", 100);
  write("a", 50, "new");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "0123456789");
  truncate("a", 0);
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "0123456789");
}

TEST_F(PinsTest, WriteIntoWhatAnExtensionMadeOfANewFile) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "");
  truncate("a", 100'000);
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  write("a", 50'000, "new");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), std::string(100'000, '\0'));
}

TEST_F(PinsTest, PunchedAfterTheSeal) {
  pins_->restore({}, {}, EpochId{0});
  std::string bytes(1 << 20, 'p');
  create("a", bytes);
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  punch("a", 4096, 65536);
  punch("a", 5, 10);
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), bytes);
}

TEST_F(PinsTest, HolesAreSavedAsHoles) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "");
  truncate("a", 32 << 20);
  write("a", 16 << 20, "middle");
  std::string bytes = read("a");
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  truncate("a", 0);
  EXPECT_LT(pin->log_bytes(), 128u << 10);
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), bytes);
}

TEST_F(PinsTest, UnlinkedAfterTheSeal) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "last words");
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  const Touched file = touch("a", kNone);
  unlink("a");
  create("a", "another file");
  EXPECT_EQ(at_seal(*reader, file), "last words");
  pins_->unpin(pin);
  pin.reset();
  EXPECT_EQ(open_handle(dir_.get(), file.handle, O_RDONLY), -ESTALE);
}

TEST_F(PinsTest, MoreFilesVanishThanDescriptorsMayBeKept) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit low{12, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  make_pins();  // a quarter: three
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  pins_->restore({}, {}, EpochId{0});
  std::vector<Touched> files;
  for (int i = 0; i < 6; ++i) {
    create(std::to_string(i), "content " + std::to_string(i));
    files.push_back(touch(std::to_string(i), kNone));
  }
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  for (int i = 0; i < 6; ++i) unlink(std::to_string(i));
  ASSERT_TRUE(reader->refresh());
  int kept = 0;
  for (int i = 0; i < 6; ++i) {
    UniqueFd fd(open_handle(dir_.get(), files[i].handle, O_RDONLY));
    if (fd) {
      ++kept;
      EXPECT_EQ(at_seal(*reader, files[i]), "content " + std::to_string(i));
      continue;
    }
    std::string bytes(9, '\0');
    ASSERT_NE(reader->saved(files[i].id), nullptr);
    EXPECT_EQ(reader->saved(files[i].id)->bytes(), bytes.size());
    ASSERT_TRUE(reader->overlay(files[i].id, 0, bytes.data(), bytes.size()));
    EXPECT_EQ(bytes, "content " + std::to_string(i));
  }
  EXPECT_EQ(kept, 3);
}

TEST_F(PinsTest, AttributesAreThoseOfTheSeal) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "aaa");
  ASSERT_EQ(::setxattr(path("a").c_str(), "user.k", "v", 1, 0), 0);
  auto pin = seal_and_pin(0, 1);
  auto reader = reader_of(*pin);
  auto before = journal::capture_attributes(UniqueFd(::openat(dir_.get(), "a", O_RDONLY)).get());
  auto root_before = journal::capture_attributes(dir_.get());
  const Touched file = touch("a", kNone), root = touch("", kNone);
  ASSERT_TRUE(reader->refresh());
  EXPECT_EQ(reader->attributes(file.id), nullptr);
  pins_->save(file);
  ASSERT_EQ(::fchmodat(dir_.get(), "a", 0600, 0), 0);
  ASSERT_EQ(::setxattr(path("a").c_str(), "user.k", "w", 1, 0), 0);
  create("b", "");
  ASSERT_TRUE(reader->refresh());
  ASSERT_NE(reader->attributes(file.id), nullptr);
  EXPECT_EQ(*reader->attributes(file.id), *before);
  ASSERT_NE(reader->attributes(root.id), nullptr);
  EXPECT_EQ(*reader->attributes(root.id), *root_before);
}

TEST_F(PinsTest, TwoPinsAtOnce) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "one");
  auto slow = seal_and_pin(0, 1);
  write("a", 0, "two");
  auto fast = seal_and_pin(1, 2);
  write("a", 0, "tri");
  auto slow_reader = reader_of(*slow), fast_reader = reader_of(*fast);
  EXPECT_EQ(at_seal(*slow_reader, touch("a", kNone)), "one");
  EXPECT_EQ(at_seal(*fast_reader, touch("a", kNone)), "two");
  pins_->unpin(slow);
  const uint64_t before = slow->log_bytes();
  write("a", 0, "4");
  EXPECT_EQ(slow->log_bytes(), before);
}

TEST_F(PinsTest, MergeForwardCoversBothEpochs) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "a1");
  pins_->cursors_are({EpochId{0}});
  auto pin = seal_and_pin(0, 1);
  pins_->unpin(pin);  // lost, not acknowledged
  create("b", "b2");
  pin = seal_and_pin(0, 2);
  auto reader = reader_of(*pin);
  write("a", 0, "x");
  write("b", 0, "x");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "a1");
  EXPECT_EQ(at_seal(*reader, touch("b", kNone)), "b2");
}

TEST_F(PinsTest, LostRecordsMakeEveryFileCount) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "before");
  pins_->seal(EpochId{1});
  pins_->dirty_all();
  auto pin = seal_and_pin(1, 2);
  auto reader = reader_of(*pin);
  write("a", 0, "AFTER!");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "before");
  pins_->unpin(pin);
  // The next epoch knows its files again.
  create("b", "b");
  pin = seal_and_pin(2, 3);
  write("b", 0, "x");
  const uint64_t bytes = pin->log_bytes();
  UniqueFd fd(::openat(dir_.get(), "c", O_RDWR | O_CREAT, 0644));
  write("c", 0, "x");
  EXPECT_EQ(pin->log_bytes(), bytes);
}

TEST_F(PinsTest, WhatAnEarlierProcessLeftIsSaved) {
  pins_->restore({}, {}, EpochId{0});
  create("old", "0123456789");
  create("clean", "0123456789");
  make_pins();  // another process
  journal::ChangeSet changes;
  changes.files[touch("old", kNone).id].data.add({2, 4});
  pins_->restore({}, changes, EpochId{6});
  auto pin = seal_and_pin(6, 8);
  auto reader = reader_of(*pin);
  write("old", 0, "abcdefghij");
  write("clean", 0, "abcdefghij");
  ASSERT_TRUE(reader->refresh());
  const journal::ByteRanges* saved = reader->saved(touch("old", kNone).id);
  ASSERT_NE(saved, nullptr);
  EXPECT_EQ(saved->bytes(), 2u);
  EXPECT_EQ(reader->saved(touch("clean", kNone).id), nullptr);
}

TEST_F(PinsTest, WithoutRestoreEverythingCounts) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "before");
  make_pins();
  auto pin = seal_and_pin(6, 8);
  auto reader = reader_of(*pin);
  write("a", 0, "AFTER!");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "before");
}

TEST_F(PinsTest, APinFromBeforeWhatIsKnownSavesEverything) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "before");
  pins_->seal(EpochId{1});
  pins_->cursors_are({});  // nobody needs epoch 1: dropped
  auto pin = seal_and_pin(0, 2);
  auto reader = reader_of(*pin);
  write("a", 0, "AFTER!");
  EXPECT_EQ(at_seal(*reader, touch("a", kNone)), "before");
}

TEST_F(PinsTest, AnUnreadableFileGivesThePinUp) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "a");
  Touched t = touch("a", kAll);
  auto pin = seal_and_pin(0, 1);
  t.handle.bytes[0] ^= 0x5a;
  t.handle.bytes[4] ^= 0x5a;
  pins_->save(t);
  EXPECT_TRUE(pin->given_up());
}

TEST_F(PinsTest, TooLargeAPreImageGivesThePinUp) {
  UniqueFd from(::openat(dir_.get(), "from", O_RDWR | O_CREAT, 0600));
  UniqueFd to(::openat(dir_.get(), "to", O_RDWR | O_CREAT, 0600));
  if (::ioctl(to.get(), FICLONE, from.get()) == 0) GTEST_SKIP() << "it would share blocks here";
  pins_->restore({}, {}, EpochId{0});
  create("a", "");
  std::string megabyte(1 << 20, 'm');
  for (uint64_t at = 0; at <= kMaxSavedByOneMutation; at += megabyte.size()) {
    write("a", at, megabyte);
  }
  auto pin = seal_and_pin(0, 1);
  truncate("a", kMaxSavedByOneMutation / 2);
  EXPECT_FALSE(pin->given_up());
  write("a", 0, "x");
  pins_->unpin(pin);
  for (uint64_t at = 0; at <= kMaxSavedByOneMutation; at += megabyte.size()) {
    write("a", at, megabyte);
  }
  pin = seal_and_pin(0, 2);
  truncate("a", 0);
  EXPECT_TRUE(pin->given_up());
}

TEST_F(PinsTest, LogsOfAnEarlierProcessAreRemoved) {
  UniqueFd dir(::openat(volume_.dir(), journal::kPreimagesDir, O_RDONLY | O_DIRECTORY));
  ::close(::openat(dir.get(), "pin-1", O_WRONLY | O_CREAT, 0600));
  make_pins();
  EXPECT_NE(::faccessat(dir.get(), "pin-1", F_OK, 0), 0);
  auto log = pins_->make_log();
  ASSERT_TRUE(log);
}

TEST_F(PinsTest, WhatThereIsCanBeAskedForWhilePinsComeAndGo) {
  std::atomic<bool> over{false};
  std::jthread come_and_go([&] {
    for (int i = 0; i < 3000; ++i) pins_->unpin(seal_and_pin(0, 1));
    over = true;
  });
  while (!over) {
    EXPECT_LT(pins_->log_bytes(), 1u << 20);
    EXPECT_LE(pins_->ends().size(), 1u);
    EXPECT_FALSE(pins_->give_up_largest(UINT64_MAX));
  }
}

}  // namespace
}  // namespace epochfs::fs
