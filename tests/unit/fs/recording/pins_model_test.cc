// Pins against a model: many threads change a few files in random ways, epochs are sealed
// and pinned meanwhile, and every pin has to show what a snapshot held.
#include <sys/xattr.h>

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "fs/recording/barrier.h"
#include "replicator/source/reading/epoch_reader.h"
#include "tests/support/random.h"
#include "tests/unit/fs/recording/pins_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;

using namespace std::chrono_literals;

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
  journal::ByteRanges data;
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
    auto root = out.getRoot<rpc::Attributes>();
    root.initAtime();
    // No list is the same as an empty one.
    if (root.getXattrs().size() == 0) root.disownXattrs();
    if (root.getSymlinkTarget().size() == 0) root.disownSymlinkTarget();
    auto flat = capnp::canonicalize(root.asReader());
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
      s.attributes = without_atime(*journal::capture_attributes(f->fd.get()));
      struct stat st;
      EXPECT_EQ(::fstat(f->fd.get(), &st), 0);
      s.bytes.resize(size_t(st.st_size));
      EXPECT_TRUE(pread_full(f->fd.get(), s.bytes.data(), s.bytes.size(), 0, "snapshot"));
      out[f->id] = std::move(s);
    }
    struct statx a;
    FileHandle handle;
    EXPECT_EQ(identify(dir_.get(), "", a, handle), 0);
    out[file_id(a)] = {"", without_atime(*journal::capture_attributes(dir_.get()))};
    return out;
  }

  // Plays the replicator: brings `target` from one seal to the next with what the
  // dirty ranges say, and its reader finds, and compares.
  // With `pin`, it tells how far it is, as a reader may that reads once.
  void ship(journal::PreImageReader& log, const DirtyFiles& dirty, const Snapshots& base,
            const Snapshots& expected, Pins::Pin* pin = nullptr) {
    replicator::EpochReader reader(dir_.get(), &log);
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
      capnp::MallocMessageBuilder message;
      auto attributes = message.initRoot<rpc::Attributes>();
      auto file = reader.open(id, d->second.handle, attributes);
      ASSERT_TRUE(file) << file.error().message();
      ASSERT_TRUE(*file) << "file " << id.inode << " is out of reach";
      auto flat = capnp::messageToFlatArray(message);
      got.attributes = without_atime({flat.asChars().begin(), flat.asChars().size()});
      ASSERT_EQ(got.attributes, want.attributes) << "attributes of file " << id.inode;

      auto b = base.find(id);
      if (b != base.end() && !d->second.fresh) got.bytes = b->second.bytes;
      got.bytes.resize(want.bytes.empty() ? 0 : attributes.getSize());
      d->second.data.within({0, got.bytes.size()}).for_each([&](ByteRange range) {
        auto mapped = reader.map(**file, range, [&](ByteRange r, bool hole) {
          char* to = got.bytes.data() + r.begin;
          std::memset(to, 0, r.length());
          if (hole) return;
          if ((*file)->fd) {
            ASSERT_TRUE(pread_full((*file)->fd.get(), to, r.length(), r.begin, "file"));
          }
          ASSERT_TRUE(log.refresh());
          ASSERT_TRUE(log.overlay(id, r.begin, to, r.length()));
          if (pin) pin->passed(id, r.end);
        });
        ASSERT_TRUE(mapped) << mapped.error().message();
      });
      if (HasFatalFailure()) return;
      ASSERT_FALSE(log.given_up());
      if (got.bytes != want.bytes) {
        size_t at = size_t(
            std::mismatch(got.bytes.begin(), got.bytes.end(), want.bytes.begin(), want.bytes.end())
                .first -
            got.bytes.begin());
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
    if (!file)
      create();
    else if (what < 10)
      forget(file);
    else if (what < 50)
      write(*file);
    else if (what < 60)
      truncate(*file);
    else if (what < 72)
      allocate(*file);
    else if (what < 80)
      attributes(*file);
    else if (what < 85)
      link(*file);
    else if (what < 94)
      unlink(*file);
    else
      rename(*file);
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
    Snapshots target;  // at the cursor
    std::shared_ptr<Pins::Pin> pin;
    std::unique_ptr<journal::PreImageReader> reader;
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
      std::unique_ptr<journal::PreImageWriter> logs[2] = {*pins_->make_log(), *pins_->make_log()};
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
        const bool keep = random.one_in(3);  // for another epoch
        ship(*r.reader, r.pinned_dirty, r.target, r.expected, keep ? nullptr : r.pin.get());
        if (HasFatalFailure()) break;
        if (keep) continue;
        const bool acknowledged = !random.one_in(4);
        if (acknowledged) {
          r.cursor = r.pinned;
          r.target = std::move(r.expected);
        }
        pins_->unpin(r.pin);
        r.pin.reset();
        r.reader.reset();
        pins_->cursors_are({EpochId{relationships[0].cursor}, EpochId{relationships[1].cursor}});
      }
    }
  }
  stop = true;
  for (auto& w : workers) w.join();
}

TEST_F(ModelTest, RandomOperationsOneByOne) { run(0, 300); }
TEST_F(ModelTest, RandomOperationsFromManyThreads) { run(3, 60); }

}  // namespace
}  // namespace epochfs::fs
