#include "fs/pins.h"

#include <capnp/serialize.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "fs/barrier.h"
#include "journal/attributes.h"
#include "journal/volume.h"
#include "tests/unit/support.h"

namespace epochfs {
namespace {

using namespace std::chrono_literals;
using namespace epochfs::testing;

constexpr ByteRange kAll{0, ByteRange::kEndOfFile};
constexpr ByteRange kNone{};

// A volume and a backing directory below a temporary one. Place it on another
// file system with TMPDIR.
class PinsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mkdir((base_ / "backing").c_str(), 0755), 0);
    dir_ = must(open_directory(base_ / "backing"));
    volume_ = make_volume(base_);
    struct statx a;
    FileHandle handle;
    ASSERT_EQ(identify(dir_.get(), "", a, handle), 0);
    int fd = open_handle(dir_.get(), handle, O_PATH);
    if (fd == -EPERM) GTEST_SKIP() << "opening by handle needs CAP_DAC_READ_SEARCH";
    ASSERT_GE(fd, 0);
    ::close(fd);
    make_pins();
  }
  void make_pins() {
    pins_.reset();
    pins_ = must(Pins::create(volume_, dir_.get()));
  }

  // ---- operations, as the mount runs them ----

  Touched touch(const std::string& name, ByteRange data, bool vanishing = false) {
    struct statx a;
    Touched t;
    EXPECT_EQ(identify(dir_.get(), name.c_str(), a, t.handle), 0) << name;
    t.id = file_id(a);
    t.data = data;
    t.vanishing = vanishing;
    return t;
  }
  void create(const std::string& name, const std::string& bytes) {
    pins_->save(touch("", kNone));
    UniqueFd fd(::openat(dir_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0644));
    ASSERT_TRUE(fd);
    ASSERT_TRUE(pwrite_full(fd.get(), bytes.data(), bytes.size(), 0, name));
    pins_->dirty(touch(name, kNone).id, kAll);
    pins_->dirty(touch("", kNone).id, kNone);
  }
  void write(const std::string& name, uint64_t offset, const std::string& bytes) {
    Touched t = touch(name, {offset, offset + bytes.size()});
    pins_->save(t);
    UniqueFd fd(::openat(dir_.get(), name.c_str(), O_RDWR));
    ASSERT_TRUE(pwrite_full(fd.get(), bytes.data(), bytes.size(), offset, name));
    pins_->dirty(t.id, t.data);
  }
  void truncate(const std::string& name, uint64_t size) {
    Touched t = touch(name, {size, ByteRange::kEndOfFile});
    pins_->save(t);
    ASSERT_EQ(::truncate(path(name).c_str(), off_t(size)), 0);
    pins_->dirty(t.id, t.data);
  }
  void punch(const std::string& name, uint64_t offset, uint64_t length) {
    Touched t = touch(name, {offset, offset + length});
    pins_->save(t);
    UniqueFd fd(::openat(dir_.get(), name.c_str(), O_RDWR));
    ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(offset),
                          off_t(length)), 0);
    pins_->dirty(t.id, t.data);
  }
  void unlink(const std::string& name) {
    Touched t = touch(name, kNone, true), parent = touch("", kNone);
    pins_->save(t);
    pins_->save(parent);
    ASSERT_EQ(::unlinkat(dir_.get(), name.c_str(), 0), 0);
    pins_->dirty(t.id, kNone);
    pins_->dirty(parent.id, kNone);
  }
  std::string read(const std::string& name) {
    auto bytes = read_file(dir_.get(), name, 1 << 26);
    EXPECT_TRUE(bytes);
    return bytes.value_or("");
  }

  std::shared_ptr<Pins::Pin> seal_and_pin(uint64_t since, uint64_t sealed) {
    auto log = pins_->make_log();
    EXPECT_TRUE(log);
    pins_->seal(EpochId{sealed});
    return pins_->pin(EpochId{since}, EpochId{sealed}, *std::move(log));
  }
  std::unique_ptr<PreImageReader> reader_of(const Pins::Pin& pin) {
    auto reader = PreImageReader::open(UniqueFd(::dup(pin.log_fd())));
    EXPECT_TRUE(reader);
    return *std::move(reader);
  }
  // What the file held at the seal: backing bytes under pre-images.
  std::string at_seal(PreImageReader& reader, const Touched& file) {
    UniqueFd fd(open_handle(dir_.get(), file.handle, O_RDONLY));
    EXPECT_TRUE(fd) << "open by handle";
    struct stat st;
    EXPECT_EQ(::fstat(fd.get(), &st), 0);
    uint64_t size = uint64_t(st.st_size);
    EXPECT_TRUE(reader.refresh());
    if (const std::string* saved = reader.attributes(file.id)) size = size_in(*saved);
    std::string bytes(size, '\0');
    EXPECT_TRUE(pread_full(fd.get(), bytes.data(), size, 0, "file"));
    EXPECT_TRUE(reader.refresh());
    EXPECT_TRUE(reader.overlay(file.id, 0, bytes.data(), size));
    EXPECT_FALSE(reader.given_up());
    return bytes;
  }
  static uint64_t size_in(const std::string& attributes) {
    std::vector<capnp::word> words(attributes.size() / sizeof(capnp::word));
    std::memcpy(words.data(), attributes.data(), attributes.size());
    capnp::FlatArrayMessageReader message(kj::arrayPtr(words.data(), words.size()));
    return message.getRoot<rpc::Attributes>().getSize();
  }

  std::string path(const std::string& name) { return (base_ / "backing") + "/" + name; }

  TemporaryDirectory base_;
  UniqueFd dir_;
  Volume volume_;
  std::unique_ptr<Pins> pins_;
};

TEST_F(PinsTest, NothingIsSavedWithoutAPin) {
  pins_->restore({}, {}, EpochId{0});
  create("a", "hello");
  pins_->seal(EpochId{1});
  write("a", 0, "J");
  auto pin = seal_and_pin(0, 2);
  EXPECT_EQ(pin->log_bytes(), 0u);
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
  auto before = capture_attributes(UniqueFd(::openat(dir_.get(), "a", O_RDONLY)).get());
  auto root_before = capture_attributes(dir_.get());
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
  ChangeSet changes;
  changes.files[touch("old", kNone).id].data.add({2, 4});
  pins_->restore({}, changes, EpochId{6});
  auto pin = seal_and_pin(6, 8);
  auto reader = reader_of(*pin);
  write("old", 0, "abcdefghij");
  write("clean", 0, "abcdefghij");
  ASSERT_TRUE(reader->refresh());
  const ByteRanges* saved = reader->saved(touch("old", kNone).id);
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
  UniqueFd dir(::openat(volume_.dir(), kPreimagesDir, O_RDONLY | O_DIRECTORY));
  ::close(::openat(dir.get(), "pin-1", O_WRONLY | O_CREAT, 0600));
  make_pins();
  EXPECT_NE(::faccessat(dir.get(), "pin-1", F_OK, 0), 0);
  auto log = pins_->make_log();
  ASSERT_TRUE(log);
}

// ---- layers ----

void seal_one(Pins& pins, uint64_t epoch) {
  pins.dirty(FileId{epoch, 1}, {0, epoch});
  pins.seal(EpochId{epoch});
}

TEST_F(PinsTest, LayersThatNoCursorSeparatesAreMerged) {
  pins_->restore({}, {}, EpochId{0});
  for (uint64_t e = 1; e <= 10; ++e) seal_one(*pins_, e);
  EXPECT_EQ(pins_->layers(), 10u);
  pins_->cursors_are({EpochId{0}});
  EXPECT_EQ(pins_->layers(), 1u);
  for (uint64_t e = 11; e <= 20; ++e) seal_one(*pins_, e);
  pins_->cursors_are({EpochId{0}, EpochId{15}});
  EXPECT_EQ(pins_->layers(), 2u);  // up to 15, and after it
  pins_->cursors_are({EpochId{15}});
  EXPECT_EQ(pins_->layers(), 1u);
  pins_->cursors_are({EpochId{20}});
  EXPECT_EQ(pins_->layers(), 0u);
}

TEST_F(PinsTest, LayersThatACursorIsInsideOfStay) {
  pins_->restore({}, {}, EpochId{0});
  for (uint64_t e = 1; e <= 4; ++e) seal_one(*pins_, e);
  pins_->cursors_are({EpochId{0}});
  ASSERT_EQ(pins_->layers(), 1u);
  pins_->cursors_are({EpochId{2}});
  EXPECT_EQ(pins_->layers(), 1u);
}

TEST_F(PinsTest, ALayerWhereAPinEndsIsNotMergedOn) {
  pins_->restore({}, {}, EpochId{0});
  pins_->cursors_are({EpochId{0}});
  seal_one(*pins_, 1);
  auto pin = seal_and_pin(0, 2);
  seal_one(*pins_, 3);
  seal_one(*pins_, 4);
  pins_->compact();
  EXPECT_EQ(pins_->layers(), 2u);
  pins_->unpin(pin);
  EXPECT_EQ(pins_->layers(), 1u);
}

TEST_F(PinsTest, ASmallLayerBesideALargeOneWaits) {
  pins_->restore({}, {}, EpochId{0});
  for (uint64_t i = 1; i <= 20'000; ++i) pins_->dirty(FileId{i, 1}, {0, 1});
  pins_->seal(EpochId{1});
  pins_->cursors_are({EpochId{0}});
  size_t most = 0;
  for (uint64_t e = 2; e <= 200; ++e) {
    for (uint64_t i = 1; i <= 100; ++i) pins_->dirty(FileId{e * 1'000'000 + i, 1}, {0, 1});
    pins_->seal(EpochId{e});
    pins_->compact();
    most = std::max(most, pins_->layers());
  }
  EXPECT_LE(most, 8u);
  EXPECT_GE(most, 2u);
}

// ---- against a model ----

// What one file was at a seal.
struct Snapshot {
  std::string bytes;
  std::string attributes;  // encoded; without atime
};
using Snapshots = std::map<FileId, Snapshot>;

// A file that the model's mutators work on. Data operations on it are not
// serialized here, just as little as the mount serializes them.
struct ModelFile {
  FileId id;
  FileHandle handle;
  UniqueFd fd;
  std::mutex names_mutex;
  std::set<std::string> names;
};

struct Dirty {
  FileHandle handle;
  ByteRanges data;
  bool fresh = false;
};
using DirtyFiles = std::map<FileId, Dirty>;

class ModelTest : public PinsTest {
 protected:
  class Mutator;
  using FilePtr = std::shared_ptr<ModelFile>;

  void mark(const FileId& id, const FileHandle& handle, ByteRange data, bool fresh) {
    pins_->dirty(id, fresh ? kAll : data);
    std::lock_guard lock(dirty_mutex_);
    Dirty& d = dirty_[id];
    d.handle = handle;
    d.data.add(fresh ? kAll : data);
    d.fresh |= fresh;
  }

  static std::string without_atime(const std::string& encoded) {
    std::vector<capnp::word> words(encoded.size() / sizeof(capnp::word));
    std::memcpy(words.data(), encoded.data(), encoded.size());
    capnp::FlatArrayMessageReader in(kj::arrayPtr(words.data(), words.size()));
    capnp::MallocMessageBuilder out;
    out.setRoot(in.getRoot<rpc::Attributes>());
    out.getRoot<rpc::Attributes>().initAtime();
    auto flat = capnp::messageToFlatArray(out);
    return std::string(flat.asChars().begin(), flat.asChars().size());
  }

  // All that has a name, as it is now.
  Snapshots snapshot() {
    Snapshots out;
    std::vector<FilePtr> files;
    {
      std::lock_guard lock(files_mutex_);
      files = files_;
    }
    for (const FilePtr& f : files) {
      if (f->names.empty()) continue;
      Snapshot s;
      s.attributes = without_atime(*capture_attributes(f->fd.get()));
      struct stat st;
      EXPECT_EQ(::fstat(f->fd.get(), &st), 0);
      s.bytes.resize(size_t(st.st_size));
      EXPECT_TRUE(pread_full(f->fd.get(), s.bytes.data(), s.bytes.size(), 0, "snapshot"));
      out[f->id] = std::move(s);
    }
    struct statx a;
    FileHandle handle;
    EXPECT_EQ(identify(dir_.get(), "", a, handle), 0);
    out[file_id(a)] = {"", without_atime(*capture_attributes(dir_.get()))};
    return out;
  }

  // Plays the replicator: brings `target` from one seal to the next with what the
  // dirty ranges, the backing files and the log say, and compares.
  void ship(PreImageReader& reader, const DirtyFiles& dirty, const Snapshots& base,
            const Snapshots& expected) {
    for (const auto& [id, want] : expected) {
      auto d = dirty.find(id);
      if (d == dirty.end()) {
        auto b = base.find(id);
        ASSERT_NE(b, base.end()) << "file " << id.inode;
        ASSERT_EQ(b->second.bytes, want.bytes) << "file " << id.inode << " has no dirty range";
        ASSERT_EQ(b->second.attributes, want.attributes) << "file " << id.inode;
        continue;
      }
      Snapshot got;
      UniqueFd fd(open_handle(dir_.get(), d->second.handle, O_RDONLY));
      std::string live = fd ? *capture_attributes(fd.get()) : "";
      ASSERT_TRUE(reader.refresh());
      const std::string* saved = reader.attributes(id);
      ASSERT_TRUE(saved || fd) << "file " << id.inode << " is out of reach";
      got.attributes = without_atime(saved ? *saved : live);
      ASSERT_EQ(got.attributes, want.attributes) << "attributes of file " << id.inode;

      auto b = base.find(id);
      if (b != base.end() && !d->second.fresh) got.bytes = b->second.bytes;
      const uint64_t size = size_in(got.attributes);
      got.bytes.resize(want.bytes.empty() ? 0 : size);
      ByteRanges ranges = d->second.data.within({0, got.bytes.size()});
      ranges.for_each([&](ByteRange r) {
        char* to = got.bytes.data() + r.begin;
        std::memset(to, 0, r.length());
        if (fd) {
          ASSERT_TRUE(pread_full(fd.get(), to, r.length(), r.begin, "file"));
        }
        ASSERT_TRUE(reader.refresh());
        if (!fd) {
          const ByteRanges* have = reader.saved(id);
          ASSERT_TRUE(have && have->within(r).bytes() == r.length());
        }
        ASSERT_TRUE(reader.overlay(id, r.begin, to, r.length()));
      });
      if (HasFatalFailure()) return;
      ASSERT_FALSE(reader.given_up());
      if (got.bytes != want.bytes) {
        size_t at = size_t(std::mismatch(got.bytes.begin(), got.bytes.end(), want.bytes.begin(),
                                         want.bytes.end()).first - got.bytes.begin());
        FAIL() << "file " << id.inode << " differs at byte " << at << " of " << want.bytes.size();
      }
    }
  }

  DirtyFiles dirty_since(uint64_t cursor) {
    DirtyFiles out;
    for (auto e = sealed_dirty_.upper_bound(cursor); e != sealed_dirty_.end(); ++e) {
      for (const auto& [id, d] : e->second) {
        Dirty& to = out[id];
        to.handle = d.handle;
        to.data.add(d.data);
        to.fresh |= d.fresh;
      }
    }
    return out;
  }

  void run(int threads, int epochs);

  Barrier barrier_;
  std::mutex files_mutex_, dirty_mutex_;
  std::vector<FilePtr> files_;  // named ones, and unlinked ones that are still open
  DirtyFiles dirty_;            // of the open epoch
  std::map<uint64_t, DirtyFiles> sealed_dirty_;
  std::atomic<uint64_t> names_{0};
};

// One worker of the mount, doing random things.
class ModelTest::Mutator {
 public:
  Mutator(ModelTest& test, uint64_t seed)
      : t_(test), random_(seed), seat_(test.barrier_.take_seat()) {}
  ~Mutator() { t_.barrier_.give_back(seat_); }

  void step() {
    t_.barrier_.enter(seat_);
    FilePtr file = pick();
    const uint64_t what = below(100);
    if (!file) create();
    else if (what < 10) forget(file);
    else if (what < 50) write(*file);
    else if (what < 60) truncate(*file);
    else if (what < 72) allocate(*file);
    else if (what < 80) attributes(*file);
    else if (what < 85) link(*file);
    else if (what < 94) unlink(*file);
    else rename(*file);
    t_.barrier_.leave(seat_);
  }

 private:
  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }
  FilePtr pick() {
    std::lock_guard lock(t_.files_mutex_);
    if (t_.files_.size() < 3 || (t_.files_.size() < 24 && below(8) == 0)) return nullptr;
    return t_.files_[below(t_.files_.size())];
  }
  Touched touch(ModelFile& f, ByteRange data, bool vanishing = false) {
    return {f.id, f.handle, below(2) ? f.fd.get() : -1, data, vanishing};
  }
  void save(const Touched& touched) { t_.pins_->save(touched); }
  void save_root() {
    Touched root;
    struct statx a;
    ASSERT_EQ(identify(t_.dir_.get(), "", a, root.handle), 0);
    root.id = file_id(a);
    save(root);
    root_ = root;
  }
  void mark_root() { t_.mark(root_.id, root_.handle, kNone, false); }
  void mark(ModelFile& f, ByteRange data) { t_.mark(f.id, f.handle, data, false); }
  std::string path(const std::string& name) { return t_.path(name); }
  ByteRange some_range() {
    const uint64_t unit = below(3) == 0 ? 4096 : 1;
    const uint64_t begin = below((128 << 10) / unit) * unit;
    return {begin, begin + (1 + below((below(4) ? 6000 : 50'000) / unit + 1)) * unit};
  }

  void create() {
    save_root();
    auto f = std::make_shared<ModelFile>();
    std::string name = "f" + std::to_string(++t_.names_);
    f->fd.reset(::openat(t_.dir_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0644));
    ASSERT_TRUE(f->fd) << std::strerror(errno);
    struct statx a;
    ASSERT_EQ(identify(t_.dir_.get(), name.c_str(), a, f->handle), 0);
    f->id = file_id(a);
    f->names.insert(name);
    t_.mark(f->id, f->handle, kAll, true);
    mark_root();
    std::lock_guard lock(t_.files_mutex_);
    t_.files_.push_back(f);
  }
  void write(ModelFile& f) {
    const ByteRange r = some_range();
    std::string bytes(r.length(), char('A' + below(26)));
    save(touch(f, r));
    ASSERT_TRUE(pwrite_full(f.fd.get(), bytes.data(), bytes.size(), r.begin, "file"));
    mark(f, r);
  }
  void truncate(ModelFile& f) {
    const ByteRange r{below(100'000), ByteRange::kEndOfFile};
    save(touch(f, r));
    ASSERT_EQ(::ftruncate(f.fd.get(), off_t(r.begin)), 0);
    mark(f, r);
  }
  void allocate(ModelFile& f) {
    static constexpr int kModes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE,
                                     FALLOC_FL_INSERT_RANGE, 0};
    const int mode = kModes[below(5)];
    ByteRange r = some_range(), changes = r;
    if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
      r.begin &= ~uint64_t{4095};
      r.end = r.begin + 8192;
      changes = {r.begin, ByteRange::kEndOfFile};
    }
    save(touch(f, changes));
    const bool done = ::fallocate(f.fd.get(), mode, off_t(r.begin), off_t(r.length())) == 0;
    mark(f, done ? changes : kNone);  // ext4 moves the times before it refuses
  }
  void attributes(ModelFile& f) {
    save(touch(f, kNone));
    if (below(2)) {
      ASSERT_EQ(::fchmod(f.fd.get(), mode_t(0600 + below(64))), 0);
    } else {
      std::string value(1 + below(40), char('a' + below(26)));
      ::fsetxattr(f.fd.get(), "user.model", value.data(), value.size(), 0);
    }
    mark(f, kNone);
  }
  void link(ModelFile& f) {
    std::lock_guard lock(f.names_mutex);
    if (f.names.empty()) return;
    save(touch(f, kNone));
    save_root();
    std::string name = "l" + std::to_string(++t_.names_);
    ASSERT_EQ(::link(path(*f.names.begin()).c_str(), path(name).c_str()), 0);
    f.names.insert(name);
    mark(f, kNone);
    mark_root();
  }
  void unlink(ModelFile& f) {
    std::lock_guard lock(f.names_mutex);
    if (f.names.empty()) return;
    save(touch(f, kNone, f.names.size() == 1));
    save_root();
    ASSERT_EQ(::unlink(path(*f.names.begin()).c_str()), 0);
    f.names.erase(f.names.begin());
    mark(f, kNone);
    mark_root();
  }
  void rename(ModelFile& f) {
    std::lock_guard lock(f.names_mutex);
    if (f.names.empty()) return;
    save(touch(f, kNone));
    save_root();
    std::string name = "r" + std::to_string(++t_.names_);
    ASSERT_EQ(::rename(path(*f.names.begin()).c_str(), path(name).c_str()), 0);
    f.names.erase(f.names.begin());
    f.names.insert(name);
    mark(f, kNone);
    mark_root();
  }
  // The last descriptor of an unlinked file goes, and the file with it.
  void forget(const FilePtr& f) {
    std::lock_guard names(f->names_mutex);
    if (!f->names.empty()) return;
    std::lock_guard lock(t_.files_mutex_);
    std::erase(t_.files_, f);
  }

  ModelTest& t_;
  std::mt19937_64 random_;
  Barrier::Seat* seat_;
  Touched root_;
};

// Two relationships that follow at their own pace; some epochs are given up.
void ModelTest::run(int threads, int epochs) {
  Random random;
  pins_->restore({}, {}, EpochId{0});
  struct Relationship {
    uint64_t cursor = 0;
    Snapshots target;      // at the cursor
    std::shared_ptr<Pins::Pin> pin;
    std::unique_ptr<PreImageReader> reader;
    uint64_t pinned = 0;
    DirtyFiles pinned_dirty;
    Snapshots expected;
  } relationships[2];
  for (auto& r : relationships) r.target = snapshot();
  pins_->cursors_are({EpochId{0}, EpochId{0}});

  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, s = random.u64()] {
      Mutator mutator(*this, s);
      while (!stop && !HasFatalFailure()) mutator.step();
    });
  }
  {
    Mutator inline_mutator(*this, random.u64());
    auto mutate = [&] {
      if (threads) return std::this_thread::sleep_for(random.below(3000) * 1us);
      for (uint64_t n = random.below(60); n > 0; --n) inline_mutator.step();
    };
    for (int e = 1; e <= epochs && !HasFatalFailure(); ++e) {
      mutate();
      std::unique_ptr<PreImageWriter> logs[2] = {*pins_->make_log(), *pins_->make_log()};
      const uint64_t wish = random.u64();
      ASSERT_TRUE(barrier_.cut(60s, [&] {
        pins_->seal(EpochId{uint64_t(e)});
        sealed_dirty_[uint64_t(e)].swap(dirty_);
        Snapshots now = snapshot();
        for (int i = 0; i < 2; ++i) {
          Relationship& r = relationships[i];
          if (r.pin || !(wish >> i & 1)) continue;
          r.pin = pins_->pin(EpochId{r.cursor}, EpochId{uint64_t(e)}, std::move(logs[i]));
          r.pinned = uint64_t(e);
          r.pinned_dirty = dirty_since(r.cursor);
          r.expected = now;
        }
      }));
      pins_->compact();
      for (Relationship& r : relationships) {
        if (!r.pin) continue;
        if (!r.reader) r.reader = reader_of(*r.pin);
        mutate();
        ship(*r.reader, r.pinned_dirty, r.target, r.expected);
        if (HasFatalFailure()) break;
        if (random.one_in(3)) continue;  // keeps it for another epoch
        const bool acknowledged = !random.one_in(4);
        if (acknowledged) {
          r.cursor = r.pinned;
          r.target = std::move(r.expected);
        }
        pins_->unpin(r.pin);
        r.pin.reset();
        r.reader.reset();
        pins_->cursors_are(
            {EpochId{relationships[0].cursor}, EpochId{relationships[1].cursor}});
      }
    }
  }
  stop = true;
  for (auto& w : workers) w.join();
}

TEST_F(ModelTest, RandomOperationsOneByOne) { run(0, 300); }
TEST_F(ModelTest, RandomOperationsFromManyThreads) { run(3, 60); }

}  // namespace
}  // namespace epochfs
