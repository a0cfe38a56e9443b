// PinsTest: the fixture of tests of pins. It runs operations as the mount does.
#pragma once

#include <capnp/serialize.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <cstring>
#include <memory>

#include "fs/recording/pins.h"
#include "journal/preimages/attributes.h"
#include "journal/volume/volume.h"
#include "tests/support/expect.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::testing {

inline constexpr ByteRange kAll{0, ByteRange::kEndOfFile};
inline constexpr ByteRange kNone{};

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
    pins_ = must(fs::Pins::create(volume_, dir_.get()));
  }

  // ---- operations, as the mount runs them ----

  fs::Touched touch(const std::string& name, ByteRange data, bool vanishing = false) {
    struct statx a;
    fs::Touched t;
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
    fs::Touched t = touch(name, {offset, offset + bytes.size()});
    pins_->save(t);
    UniqueFd fd(::openat(dir_.get(), name.c_str(), O_RDWR));
    ASSERT_TRUE(pwrite_full(fd.get(), bytes.data(), bytes.size(), offset, name));
    pins_->dirty(t.id, t.data);
  }
  void truncate(const std::string& name, uint64_t size) {
    fs::Touched t = touch(name, {size, ByteRange::kEndOfFile});
    t.frees = true;
    pins_->save(t);
    ASSERT_EQ(::truncate(path(name).c_str(), off_t(size)), 0);
    pins_->dirty(t.id, t.data);
  }
  void punch(const std::string& name, uint64_t offset, uint64_t length) {
    fs::Touched t = touch(name, {offset, offset + length});
    t.frees = true;
    pins_->save(t);
    UniqueFd fd(::openat(dir_.get(), name.c_str(), O_RDWR));
    ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(offset),
                          off_t(length)),
              0);
    pins_->dirty(t.id, t.data);
  }
  void unlink(const std::string& name) {
    fs::Touched t = touch(name, kNone, true), parent = touch("", kNone);
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

  std::shared_ptr<fs::Pins::Pin> seal_and_pin(uint64_t since, uint64_t sealed) {
    auto log = pins_->make_log();
    EXPECT_TRUE(log);
    pins_->seal(EpochId{sealed});
    return pins_->pin(EpochId{since}, EpochId{sealed}, *std::move(log));
  }
  std::unique_ptr<journal::PreImageReader> reader_of(const fs::Pins::Pin& pin) {
    auto reader = journal::PreImageReader::open(UniqueFd(::dup(pin.log_fd())));
    EXPECT_TRUE(reader);
    return *std::move(reader);
  }
  // What the file held at the seal: backing bytes under pre-images.
  std::string at_seal(journal::PreImageReader& reader, const fs::Touched& file) {
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
  journal::Volume volume_;
  std::unique_ptr<fs::Pins> pins_;
};

}  // namespace epochfs::testing
