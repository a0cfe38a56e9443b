// Does the journal survive a stop at every call that its durability rests on? One life of a
// volume is run again and again: each of these calls fails once, and the process or the machine
// stops before and after each. What recovery finds is compared with what the life was told.
//
// If this life does not reach a call site of Storage in journal/, the test fails and prints
// the label: extend live().

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <regex>
#include <thread>

#include "journal/changes/checkpoints.h"
#include "journal/changes/fold_epochs.h"
#include "journal/log/journal.h"
#include "journal/log/reader.h"
#include "journal/log/settled.h"
#include "journal/volume/cursors.h"
#include "journal/volume/epochs.h"
#include "journal/volume/labels.h"
#include "tests/crash/durable_storage.h"
#include "tests/support/expect.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::testing {
namespace {

using Moment = DurableStorage::Moment;
using Call = DurableStorage::Call;

constexpr uint64_t kSegment = journal::kMinSegmentBytes;
constexpr const char* kRelationship = "0a";

// What the life has been told so far.
struct Told {
  bool volume_made = false;
  bool running = false;              // opened, and not yet closing
  bool stopped = false;              // the machine has stopped, and nobody has recovered yet
  std::map<Lsn, uint64_t> appended;  // -> inode
  Lsn synced{};                      // records before it are durable
  Lsn released{};                    // records before it may be gone
  Lsn settled{}, settled_wanted{};   // durable; being written
  uint64_t filled = 0;               // inode of the intent in a slot
  std::vector<journal::SealedEpoch> published;
  uint64_t sealed = 0;                // epochs, published or not
  EpochId cursor{}, cursor_wanted{};  // durable; being written
  std::set<uint64_t> folded;          // inodes that checkpoints tell of,
  EpochId folded_up_to{};             // in epochs up to this
};

// What a journal tells.
struct Content {
  std::map<Lsn, journal::Record> records;  // without their names
  std::vector<journal::SealedEpoch> epochs;
  bool operator==(const Content&) const = default;

  size_t gaps(journal::GapReason reason) const {
    size_t n = 0;
    for (const auto& [lsn, r] : records) {
      n += r.type == journal::RecordType::kGap && journal::GapReason(r.mode) == reason;
    }
    return n;
  }
};

// What is looked at after a stop does not stop once more.
struct NoSync : Storage {
  Result<void> sync_data(const char*, int, std::string_view) override { return {}; }
  Result<void> sync_directory(const char*, int, std::string_view) override { return {}; }
};

// Where the machine has stopped, recovery doubts what is not settled, and need not doubt
// the rest.
struct Doubted {
  std::set<uint64_t> inodes;
  journal::SuspectMarker marker() {
    return [this](const FileId& file, const FileHandle&) -> Result<bool> {
      inodes.insert(file.inode);
      return true;
    };
  }
};

journal::NamedFile nothing(const FileHandle&, std::string_view) { return {}; }

Content read(const journal::Volume& volume, const std::string& where) {
  Content out;
  std::vector<journal::Damage> damage;
  EpochId newest{};
  must(journal::JournalReader(volume).read_all(
      Lsn{0},
      [&](const journal::Record& r) {
        if (r.type == journal::RecordType::kPadding) return true;
        EXPECT_GE(r.epoch, newest) << where;
        newest = r.epoch;
        journal::Record& kept = out.records[r.lsn] = r;
        kept.name = kept.name2 = {};
        return true;
      },
      &damage));
  EXPECT_TRUE(damage.empty()) << where << ": a hole at LSN " << value(damage[0].at);
  out.epochs = must(journal::read_epochs(volume.dir()));
  return out;
}

// ---- what must hold after a stop ----

void check_records(const Told& told, const Content& found, Loss loss, const std::string& where) {
  bool missing = false;
  for (const auto& [lsn, inode] : told.appended) {
    if (lsn < told.released) continue;
    auto at = found.records.find(lsn);
    const bool there = at != found.records.end() &&
                       at->second.type == journal::RecordType::kWrite &&
                       at->second.file.inode == inode;
    const bool may_be_lost = lsn >= told.synced && (told.stopped || loss != Loss::kNothing);
    EXPECT_TRUE(there || may_be_lost) << where << ": LSN " << value(lsn) << " is lost";
    missing |= !there;
  }
  for (const auto& [lsn, r] : found.records) {
    if (r.type != journal::RecordType::kWrite) continue;
    auto at = told.appended.find(lsn);
    const bool known = at != told.appended.end() && at->second == r.file.inode;
    // A slot whose first eight bytes were torn apart may show the intent before the one that
    // was lost: a change that did happen, told once more behind what is left.
    const bool once_more =
        loss == Loss::kTornWrite && lsn >= told.synced && r.file.inode <= told.filled;
    EXPECT_TRUE(known || once_more || r.file.inode == told.filled)
        << where << ": LSN " << value(lsn) << " of inode " << r.file.inode
        << " is invented; filled " << told.filled;
  }
  const size_t gaps = found.gaps(journal::GapReason::kMachineStopped);
  EXPECT_EQ(found.gaps(journal::GapReason::kJournalDamaged), 0u) << where;
  if (missing || (told.running && loss != Loss::kNothing)) {
    EXPECT_GE(gaps, 1u) << where;
  }
}

void check_suspects(const Told& told, const Content& found, const Doubted& doubted,
                    const std::string& where) {
  for (const auto& [lsn, r] : found.records) {
    if (r.type != journal::RecordType::kWrite) continue;
    if (lsn >= std::max(told.settled, told.settled_wanted)) {
      EXPECT_TRUE(doubted.inodes.count(r.file.inode))
          << where << ": inode " << r.file.inode << " is trusted";
    }
    if (told.settled_wanted == Lsn{0} && lsn < told.settled) {
      EXPECT_FALSE(doubted.inodes.count(r.file.inode)) << where << ": inode " << r.file.inode;
    }
  }
}

void check_epochs(const Told& told, const Content& found, const std::string& where) {
  ASSERT_GE(found.epochs.size(), told.published.size()) << where;
  EXPECT_LE(found.epochs.size(), told.sealed) << where;
  for (size_t i = 0; i < told.published.size(); ++i) {
    EXPECT_TRUE(found.epochs[i] == told.published[i]) << where << ": epoch " << i + 1;
  }
  for (size_t i = 0; i < found.epochs.size(); ++i) {
    const journal::SealedEpoch& e = found.epochs[i];
    EXPECT_EQ(value(e.epoch), i + 1) << where;
    EXPECT_TRUE(i == 0 || e.begin == found.epochs[i - 1].seal) << where;
    for (const auto& [lsn, r] : found.records) {
      EXPECT_TRUE(lsn == e.seal || (lsn < e.seal) == (r.epoch <= e.epoch)) << where;
    }
  }
}

// Checkpoints tell of every change in the epochs that they were made of, whatever became
// of the records.
void check_checkpoints(const journal::Volume& volume, const Told& told, const std::string& where) {
  NoSync storage;
  std::optional<Error> damage;
  auto checkpoints = must(journal::Checkpoints::open(storage, volume, &damage));
  EXPECT_FALSE(damage) << where << ": " << damage->message();
  if (told.folded.empty()) return;
  const journal::ChangeSet set = must(
      journal::fold_epochs(volume, EpochId{0}, told.folded_up_to, journal::Fold::Cancel::kDrop));
  EXPECT_FALSE(set.gap) << where;
  for (uint64_t inode : told.folded) {
    EXPECT_TRUE(set.files.count({inode, 1}))
        << where << ": the change of inode " << inode << " is lost";
  }
}

// Recovers what `image` holds, looks at it, and lives on there.
void check_image(const std::string& image, const std::string& volume_path, const Told& told,
                 Loss loss, const std::string& where) {
  NoSync storage;
  SCOPED_TRACE(where);
  ASSERT_OK(journal::prepare_state_dir(storage, image + "/state"));
  auto volume = journal::Volume::open(image + "/" + volume_path);
  if (!volume) {
    EXPECT_FALSE(told.volume_made) << where << ": " << volume.error().message();
    EXPECT_OK(journal::Volume::create(storage, image + "/" + volume_path, volume_info(kSegment)));
    return;
  }
  const EpochId cursor =
      must(journal::read_cursor(volume->dir(), kRelationship)).value_or(journal::Cursor{}).epoch;
  EXPECT_TRUE(cursor == told.cursor || cursor == told.cursor_wanted) << where;

  const std::string in_flight = image + "/" + volume_path + "/in-flight";
  if (loss != Loss::kNothing && read_file_if_there(in_flight).starts_with("EPOCHINF")) {
    poke(in_flight, 16, "another boot");
  }
  journal::RecoveryReport report;
  Doubted doubted;
  auto journal = must(journal::Journal::open(storage, *volume, nothing, report, doubted.marker()));
  EXPECT_FALSE(report.damaged) << where;
  EXPECT_TRUE(loss != Loss::kNothing || told.stopped || !report.machine_stopped) << where;
  const Content found = read(*volume, where);
  check_records(told, found, loss, where);
  if (report.machine_stopped) check_suspects(told, found, doubted, where);
  EXPECT_TRUE(report.machine_stopped || doubted.inodes.empty()) << where;
  check_epochs(told, found, where);
  check_checkpoints(*volume, told, where);
  EXPECT_EQ(value(journal->open_epoch()), found.epochs.size() + 1) << where;

  journal.reset();  // killed
  journal = must(journal::Journal::open(storage, *volume, nothing, report));
  EXPECT_FALSE(report.damaged || report.machine_stopped) << where;
  EXPECT_EQ(report.bytes_skipped, 0u) << where;
  EXPECT_TRUE(read(*volume, where) == found) << where << ": recovered twice, told differently";
  journal::Record r;
  r.type = journal::RecordType::kSetAttributes;
  r.file = {1, 1};
  EXPECT_NE(journal->append(r), Lsn{0}) << where;
  const journal::SealedEpoch sealed = journal->seal();
  EXPECT_OK(journal->publish(sealed));
  EXPECT_OK(journal->close());
}

// ---- the life ----

class Life {
 public:
  explicit Life(DurableStorage& storage, std::string root)
      : storage_(storage),
        info_(volume_info(kSegment)),
        volume_path_("state/volumes/" + info_.lineage.to_string()),
        root_(std::move(root)) {}

  const Told& told() const { return told_; }
  const std::string& volume_path() const { return volume_path_; }
  const journal::Volume& volume() const { return *volume_; }

  // From the making of the volume to its last clean stop.
  void live() {
    must(again([&] { return journal::prepare_state_dir(storage_, root_ + "/state"); }));
    make_volume();
    open();
    append(5);
    must(again([&] { return sync(); }));
    append_into(1);
    seal(true);
    move_cursor(1);
    append_into(3);
    must(again([&] { return sync(); }));
    append_into(6);
    seal(true);
    checkpoint(1);
    checkpoint(2);
    merge_checkpoints();
    label(2);
    move_cursor(2);
    settle();
    release(2);
    append(3);
    close();

    open();
    drop_checkpoints();
    append(20);
    must(again([&] { return sync(); }));
    append(5);
    seal(false);
    append(5);
    kill_with_filled_slot();
    open();
    append_into(8);
    must(again([&] { return sync(); }));
    append(30);
    seal(false);
    append_to_half();
    stop_machine();
    open();
    append(3);
    seal(true);
    settle();
    append(2);
    must(again([&] { return journal::remove_cursor(storage_, volume_->dir(), kRelationship); }));
    told_.cursor = EpochId{0};
    close();
  }

  // Every call has to come by here, then by go_on(). On the preparer's thread, whoever
  // copies files waits until the life stands still meanwhile. False: it does not, since it
  // is being opened, and may wait for the preparer itself.
  bool stand_still(std::string_view what, const Call& call, Moment moment, bool copies) {
    if (std::this_thread::get_id() == thread_) return true;
    std::unique_lock lock(mutex_);
    if (call.label == "segment" && moment == Moment::kBefore) preparing_ = what;
    changed_.notify_all();
    busy_ =
        copies && changed_.wait_for(lock, std::chrono::milliseconds(300), [&] { return parked_; });
    return busy_;
  }
  void go_on(const Call& call, Moment moment, bool failed) {
    if (std::this_thread::get_id() == thread_) return;
    std::lock_guard lock(mutex_);
    busy_ = false;
    if (moment == Moment::kAfter && (call.label == "segment-create" || failed)) {
      prepared_ = preparing_;
      preparing_.clear();
    }
    changed_.notify_all();
  }

 private:
  // Once more where the call that is to fail has failed in it.
  template <typename F>
  auto again(const F& f) -> decltype(f()) {
    auto result = f();
    if (!result && storage_.has_failed()) return f();
    return result;
  }

  void make_volume() {
    const std::string path = root_ + "/" + volume_path_;
    auto made = again([&]() -> Result<journal::Volume> {
      auto present = journal::Volume::open(path);  // as the next mount finds it
      return present ? std::move(present) : journal::Volume::create(storage_, path, info_);
    });
    volume_.emplace(must(std::move(made)));
    told_.volume_made = true;
  }

  void open() {
    journal::RecoveryReport report;
    journal_ =
        must(again([&] { return journal::Journal::open(storage_, *volume_, nothing, report); }));
    EXPECT_FALSE(report.damaged);
    told_.running = true;
    told_.stopped = false;
    told_.filled = 0;
    // What recovery made of it is checked where it is stopped; from here on it counts.
    const Content content = read(*volume_, "life");
    for (auto at = told_.appended.begin(); at != told_.appended.end();) {
      at = content.records.count(at->first) ? std::next(at) : told_.appended.erase(at);
    }
    for (const auto& [lsn, r] : content.records) {
      if (r.type == journal::RecordType::kWrite) told_.appended[lsn] = r.file.inode;
    }
    told_.synced = journal_->statistics().tail;
    told_.published = content.epochs;
    told_.sealed = content.epochs.size();
  }

  void append(int count) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (count > 0) {
      journal::Record r;
      r.type = journal::RecordType::kWrite;
      r.file = {next_inode_++, 1};
      r.range = {0, 1};
      r.handle.size = FileHandle::kMaxBytes;
      told_.filled = r.file.inode;
      journal::InFlight::Slot* slot = journal_->in_flight().claim();
      slot->fill({&r, 1});
      if (journal_->append(r) != Lsn{0}) {
        told_.appended[r.lsn] = r.file.inode;
        --count;
      } else {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no room any more";
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      journal_->in_flight().release(slot);
      told_.filled = 0;
      wait_for_preparer();
    }
  }
  uint64_t tail() { return value(journal_->statistics().tail); }
  void append_into(uint64_t segment) {
    while (tail() / kSegment < segment) append(1);
  }
  // To where the next segment is prepared, and this one is not full.
  void append_to_half() {
    while (tail() % kSegment < kSegment / 2 + 1000) append(1);
  }
  // The preparer has work when more than half of a segment is full. Until it is done
  // nothing is written, so that files can be copied as they are at one moment.
  void wait_for_preparer() {
    if (tail() % kSegment <= kSegment / 2) return;
    const std::string next = journal::segment_name(tail() / kSegment + 1);
    std::unique_lock lock(mutex_);
    parked_ = true;
    changed_.notify_all();
    // Prepared by somebody else, if it is there already.
    const std::string file = root_ + "/" + volume_path_ + "/segments/" + next;
    const bool there = preparing_.empty() && ::access(file.c_str(), F_OK) == 0;
    if (waited_for_ != next && !there) {
      changed_.wait_for(lock, std::chrono::milliseconds(100),
                        [&] { return preparing_ == next || prepared_ == next; });
      changed_.wait(lock, [&] { return preparing_.empty() && !busy_; });
      if (prepared_ == next) waited_for_ = next;
    }
    changed_.wait(lock, [&] { return !busy_; });
    parked_ = false;
  }

  Result<void> sync() {
    const Lsn end = journal_->statistics().tail;
    EPOCHFS_DO(journal_->sync());
    told_.synced = end;
    return {};
  }
  void seal(bool publish) {
    ++told_.sealed;
    const journal::SealedEpoch sealed = journal_->seal();
    if (!publish) return;
    must(again([&] { return journal_->publish(sealed); }));
    told_.published.push_back(sealed);
    told_.synced = std::max(told_.synced, sealed.seal);
  }
  // There is no backing directory to make durable.
  void settle() {
    told_.settled_wanted = Lsn{tail()};
    must(again([&] { return journal_->note_settled(told_.settled_wanted); }));
    told_.settled = std::exchange(told_.settled_wanted, Lsn{0});
  }
  void move_cursor(uint64_t epoch) {
    told_.cursor_wanted = EpochId{epoch};
    must(again([&] {
      return journal::write_cursor(storage_, volume_->dir(), kRelationship, {EpochId{epoch}});
    }));
    told_.cursor = EpochId{epoch};
    told_.cursor_wanted = EpochId{0};  // as it is while it is removed
  }
  void release(uint64_t epoch) {
    told_.released = Lsn{value(told_.published[epoch - 1].seal) / kSegment * kSegment};
    must(again([&] { return journal_->release_up_to(EpochId{epoch}, {.bytes = 4 * kSegment}); }));
    EXPECT_GT(must(journal::list_segments(volume_->dir())).begin()->first, 0u)
        << "nothing to release";
  }
  journal::Checkpoints& checkpoints() {
    if (!checkpoints_) {
      checkpoints_ = must(again([&] { return journal::Checkpoints::open(storage_, *volume_); }));
    }
    return *checkpoints_;
  }
  // Of the epochs behind the last one, up to this.
  void checkpoint(uint64_t epoch) {
    checkpoints();
    must(again([&] { return checkpoints_->extend(EpochId{0}, EpochId{epoch}, kApart); }));
    for (const auto& [lsn, inode] : told_.appended) {
      if (lsn < told_.published[epoch - 1].seal) told_.folded.insert(inode);
    }
    told_.folded_up_to = EpochId{epoch};
  }
  // As after every failure of the housekeeper's, a failed one is tried again as a whole.
  void merge_checkpoints() {
    ASSERT_EQ(checkpoints().all().size(), 2u);
    must(again([&] { return checkpoints_->compact({}); }));
    EXPECT_EQ(checkpoints_->all().size(), 1u);
    write_file(root_ + "/" + volume_path_ + "/checkpoints/" +
                   journal::checkpoint_name(EpochId{9}, EpochId{9}) + ".new",
               "left behind");
    checkpoints_.reset();
    EXPECT_EQ(checkpoints().all().size(), 1u);
  }
  void drop_checkpoints() {
    told_.folded.clear();
    must(again([&] { return checkpoints().drop_up_to(EpochId{2}); }));
    checkpoints_.reset();
  }
  // And one that never came to be goes.
  void label(uint64_t epoch) {
    auto write = [&] {
      return journal::write_label(storage_, volume_->dir(), told_.published[epoch - 1], "label");
    };
    must(again(write));
    write_file(root_ + "/" + volume_path_ + "/labels/9", "1 never\n");
    must(again(write));
    EXPECT_EQ(must(journal::read_label(volume_->dir(), told_.published[epoch - 1])), "label");
  }
  void close() {
    told_.running = false;
    must(again([&] { return journal_->close(); }));
    told_.synced = journal_->statistics().tail;
    journal_.reset();
  }
  void kill_with_filled_slot() {
    journal::Record r;
    r.type = journal::RecordType::kWrite;
    r.file = {next_inode_++, 1};
    r.range = {0, 1};
    told_.filled = r.file.inode;
    journal_->in_flight().claim()->fill({&r, 1});
    told_.running = false;
    journal_.reset();
  }
  // Takes a page of what was not synced.
  void stop_machine() {
    told_.running = false;
    told_.stopped = true;
    journal_.reset();
    const std::string folder = root_ + "/" + volume_path_;
    const uint64_t page = (value(told_.synced) / 4096 + 1) * 4096;
    poke(folder + "/segments/" + journal::segment_name(page / kSegment), page % kSegment,
         std::string(4096, '\0'));
    poke(folder + "/in-flight", 16, "another boot");
    storage_.restarted();
  }

  DurableStorage& storage_;
  const journal::VolumeInfo info_;
  const std::string volume_path_, root_;
  std::optional<journal::Volume> volume_;
  std::unique_ptr<journal::Journal> journal_;
  const journal::CheckpointPolicy kApart{.boundaries = {EpochId{1}}};
  std::unique_ptr<journal::Checkpoints> checkpoints_;
  Told told_;
  uint64_t next_inode_ = 1;

  const std::thread::id thread_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool parked_ = false;    // the life waits for the preparer
  bool busy_ = false;      // somebody copies files meanwhile
  std::string preparing_;  // segment
  std::string prepared_, waited_for_;
};

// ---- the tests ----

const std::string kSyncs = "sync_data|sync_directory|sync_filesystem";

class JournalCrash : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 1);
  }
  // The labels of these calls of Storage in the journal's source.
  static std::set<std::string> labels_in_source(const std::string& calls) {
    std::set<std::string> out;
    const std::regex call("(" + calls + ")\\(\\s*\"([^\"]+)\"");
    const char* source = std::getenv("EPOCHFS_SOURCE");
    if (!source) throw Failure("EPOCHFS_SOURCE does not name the source tree");
    for (const auto& file :
         std::filesystem::recursive_directory_iterator(std::string(source) + "/journal")) {
      // Commands only read; the one file that they write is none of a volume.
      if (file.path().extension() != ".cc" ||
          file.path().string().find("/commands/") != std::string::npos)
        continue;
      const std::string text = read_whole_file(file.path());
      for (std::sregex_iterator at(text.begin(), text.end(), call), end; at != end; ++at) {
        out.insert((*at)[2]);
      }
    }
    return out;
  }
};

TEST_F(JournalCrash, AStopAtAnyCallLosesNothingSyncedAndInventsNothing) {
  Random random;
  TemporaryDirectory dir;
  std::filesystem::create_directories(dir / "disk");
  DurableStorage storage(dir / "disk");
  Life life(storage, dir / "disk");
  std::set<std::string> reached;
  size_t images = 0, passed_by = 0;
  storage.on_call([&](const Call& call, Moment moment, std::string_view what) {
    const bool still = life.stand_still(what, call, moment, true);
    passed_by += !still;
    if (still && !HasFailure()) {
      reached.insert(call.label);
      for (Loss loss : {Loss::kNothing, Loss::kEverything, Loss::kRandomSectors,
                        Loss::kRandomSectors, Loss::kTornWrite}) {
        const std::string image = dir / "image";
        storage.copy_to(image, loss, random);
        check_image(image, life.volume_path(), life.told(), loss,
                    std::string(moment == Moment::kBefore ? "before " : "after ") + call.label +
                        " " + std::to_string(call.number) + ", loss " + std::to_string(int(loss)));
        std::filesystem::remove_all(image);
        ++images;
      }
    }
    life.go_on(call, moment, false);
  });
  life.live();
  EXPECT_EQ(reached, labels_in_source(kSyncs + "|allocate|replace_file|publish_file|remove_file"));
  std::printf("%zu stops; %zu moments without\n", images, passed_by);
}

TEST_F(JournalCrash, AFailureOfAnyCallIsAnErrorAndLifeGoesOn) {
  const std::set<std::string> syncs = labels_in_source(kSyncs);
  std::map<std::string, int> calls;
  size_t lives = 0, failed = 0;
  auto live = [&](const Call& fails, Moment when) {
    Random random;
    TemporaryDirectory dir;
    std::filesystem::create_directories(dir / "disk");
    DurableStorage storage(dir / "disk");
    Life life(storage, dir / "disk");
    const std::string where = "failure " +
                              std::string(when == Moment::kBefore ? "instead of " : "after ") +
                              fails.label + " " + std::to_string(fails.number);
    storage.on_call([&](const Call& call, Moment moment, std::string_view what) {
      const bool fails_now =
          storage.has_failed() && call.label == fails.label && call.number == fails.number;
      life.stand_still(what, call, moment, false);
      life.go_on(call, moment, fails_now);
    });
    if (fails.number) storage.fail_at(fails, when);
    SCOPED_TRACE(where);
    life.live();
    failed += storage.has_failed();
    ++lives;
    const std::string image = dir / "image";
    storage.copy_to(image, Loss::kEverything, random);
    check_image(image, life.volume_path(), life.told(), Loss::kEverything, where);
    if (!fails.number) calls = storage.calls();
  };
  live({}, Moment::kBefore);
  ASSERT_FALSE(HasFailure());
  for (const auto& [label, count] : calls) {
    for (int number = 1; number <= count && !HasFailure(); ++number) {
      live({label, number}, Moment::kBefore);
      // Of a sync that fails nobody knows whether it did anything.
      if (!syncs.count(label)) live({label, number}, Moment::kAfter);
    }
  }
  std::printf("%zu lives, a failure in %zu\n", lives, failed);
  // The preparer may come sooner or later, so that some calls of the first life do not come.
  EXPECT_GE(failed, lives * 9 / 10);
}

}  // namespace
}  // namespace epochfs::testing
