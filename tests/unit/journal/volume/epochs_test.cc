// Epoch manifest: does it name the sealed epochs, or its own damage?
#include "journal/volume/epochs.h"

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

constexpr size_t kEntry = kEpochEntryBytes;

SealedEpoch epoch(uint64_t n) {
  return {EpochId{n}, 1000 + n, Lsn{n * 100}, Lsn{n * 100 + 80}, n * 3};
}

class Epochs : public ::testing::Test {
 protected:
  void append(uint64_t first, uint64_t last) {
    auto manifest = must(EpochManifest::open(Storage::system(), volume_.dir()));
    for (uint64_t n = first; n <= last; ++n) {
      const SealedEpoch e = epoch(n);
      must(manifest.append({&e, 1}));
    }
  }
  EpochManifest open() { return must(EpochManifest::open(Storage::system(), volume_.dir())); }
  std::string file() const { return volume_.path() + "/epochs"; }
  Result<std::vector<SealedEpoch>> read() { return read_epochs(volume_.dir()); }
  Result<std::optional<SealedEpoch>> at(uint64_t n) {
    return read_epoch(volume_.dir(), EpochId{n});
  }

  TemporaryDirectory dir_;
  Volume volume_ = make_volume(dir_);
};

TEST_F(Epochs, NoneBeforeTheFirstSeal) {
  EXPECT_TRUE(must(read()).empty());
  EXPECT_EQ(must(at(1)), std::nullopt);
  EXPECT_EQ(must(read_last_epoch(volume_.dir())), std::nullopt);
}

TEST_F(Epochs, ComeBackInOrder) {
  append(1, 5);
  auto all = must(read());
  ASSERT_EQ(all.size(), 5u);
  for (uint64_t n = 1; n <= 5; ++n) EXPECT_EQ(all[n - 1], epoch(n));
  EXPECT_EQ(must(read_last_epoch(volume_.dir())), epoch(5));
}

TEST_F(Epochs, SeveralAreAppendedAsOne) {
  auto manifest = must(EpochManifest::open(Storage::system(), volume_.dir()));
  const std::vector<SealedEpoch> two = {epoch(1), epoch(2)};
  ASSERT_OK(manifest.append(two));
  ASSERT_OK(manifest.append({}));
  EXPECT_EQ(must(read()), two);
}

TEST_F(Epochs, NewestAtOrBeforeIsFound) {
  append(1, 3);
  EXPECT_EQ(must(at(0)), std::nullopt);
  EXPECT_EQ(must(at(2)), epoch(2));
  EXPECT_EQ(must(at(4)), epoch(3));
  EXPECT_EQ(must(at(UINT64_MAX)), epoch(3));
}

TEST_F(Epochs, ManifestCutAtEveryByteLosesTheTornEntryOnly) {
  append(1, 3);
  const std::string whole = read_whole_file(file());
  ASSERT_EQ(whole.size(), 3 * kEntry);
  for (size_t size = 0; size <= whole.size(); ++size) {
    write_file(file(), whole.substr(0, size));
    auto all = must(read());
    ASSERT_EQ(all.size(), size / kEntry) << "cut at " << size;
    for (uint64_t n = 1; n <= all.size(); ++n) EXPECT_EQ(all[n - 1], epoch(n));
  }
}

TEST_F(Epochs, TornNewestEntryIsLeftOut) {
  append(1, 3);
  poke(file(), 2 * kEntry + 8, "torn");
  EXPECT_EQ(must(read()).size(), 2u);
  EXPECT_EQ(must(read_last_epoch(volume_.dir())), epoch(2));
  // As power loss leaves it: longer, and zeros.
  write_file(file(), read_whole_file(file()).substr(0, 2 * kEntry) + std::string(kEntry, '\0'));
  EXPECT_EQ(must(read()).size(), 2u);
}

TEST_F(Epochs, DamagedEntryBeforeTheNewestIsNamed) {
  append(1, 4);
  poke(file(), kEntry + 8, "torn");
  auto all = read();
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error().status, ExitStatus::kCorrupt);
  EXPECT_EQ(all.error().message(), "read epoch manifest: entry of epoch 2 is damaged");
  EXPECT_FALSE(at(2));
  EXPECT_EQ(must(at(3)), epoch(3)) << "the others can be read one by one";
}

TEST_F(Epochs, EveryFlippedBitIsNoticed) {
  append(1, 2);
  std::string bytes = read_whole_file(file());
  for (size_t bit = 0; bit < kEntry * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = char(flipped[bit / 8] ^ 1 << (bit % 8));
    write_file(file(), flipped);
    EXPECT_FALSE(at(1)) << "bit " << bit;
  }
}

TEST_F(Epochs, EntryAtAnotherPlaceIsDamage) {
  append(1, 3);
  const std::string bytes = read_whole_file(file());
  write_file(file(),
             bytes.substr(kEntry, kEntry) + bytes.substr(0, kEntry) + bytes.substr(2 * kEntry));
  EXPECT_FALSE(at(1));
  EXPECT_FALSE(at(2));
}

TEST_F(Epochs, NumbersThatNoFileReachesAreNotThere) {
  append(1, 2);
  UniqueFd fd(::open(file().c_str(), O_RDONLY | O_CLOEXEC));
  for (uint64_t n : {uint64_t{3}, uint64_t{1} << 32, uint64_t{1} << 57, (uint64_t{1} << 58) + 1,
                     (uint64_t{1} << 63) + 1, UINT64_MAX}) {
    EXPECT_EQ(must(read_epoch_entry(fd.get(), EpochId{n})), std::nullopt) << n;
    EXPECT_EQ(must(at(n)), epoch(2)) << n;
  }
}

TEST_F(Epochs, TruncationLetsAppendingGoOn) {
  append(1, 3);
  auto manifest = must(EpochManifest::open(Storage::system(), volume_.dir()));
  ASSERT_OK(manifest.truncate_after(EpochId{1}));
  const SealedEpoch second{EpochId{2}, 7, Lsn{7}, Lsn{8}, 9};
  ASSERT_OK(manifest.append({&second, 1}));
  EXPECT_EQ(must(read()), (std::vector<SealedEpoch>{epoch(1), second}));
}

TEST_F(Epochs, EntryCutOffWhileAppendingIsReplaced) {
  append(1, 2);
  write_file(file(), read_whole_file(file()) + "half an entry");
  append(3, 3);
  EXPECT_EQ(must(read()).size(), 3u);
}

// A manifest with a hole could not be read behind it.
TEST_F(Epochs, LeavingOneOutAborts) {
  append(1, 1);
  auto manifest = must(EpochManifest::open(Storage::system(), volume_.dir()));
  const SealedEpoch third = epoch(3);
  EXPECT_DEATH((void)manifest.append({&third, 1}), "broken invariant");
}

// Lets one append reach the file, and then fails.
class FailingSync : public Storage {
 public:
  bool fails = false;
  Result<void> sync_data(const char* label, int fd, std::string_view what) override {
    if (fails && std::string_view(label) == "manifest-append") return fail("sync", EIO);
    return Storage::sync_data(label, fd, what);
  }
};

TEST_F(Epochs, FailedAppendIsRepeated) {
  FailingSync storage;
  auto manifest = must(EpochManifest::open(storage, volume_.dir()));
  const SealedEpoch first = epoch(1);
  storage.fails = true;
  EXPECT_FALSE(manifest.append({&first, 1}));
  storage.fails = false;
  EXPECT_OK(manifest.append({&first, 1}));
  EXPECT_EQ(must(read()), std::vector<SealedEpoch>{first});
}

TEST_F(Epochs, RoomOfOldEntriesIsGivenBack) {
  auto manifest = open();
  std::vector<SealedEpoch> all;
  for (uint64_t n = 1; n <= 1000; ++n) {
    all.push_back({EpochId{n}, n, Lsn{n * 100}, Lsn{n * 100 + 90}, n});
  }
  ASSERT_OK(manifest.append(all));
  ASSERT_OK(manifest.let_go_before(EpochId{900}));
  EXPECT_EQ(must(read()), all) << "the newest are kept";
  ASSERT_OK(manifest.let_go_before(EpochId{900}, 10));
  // Blocks hold 64 entries.
  const std::vector<SealedEpoch> kept(all.begin() + 896, all.end());
  EXPECT_EQ(must(read()), kept);
  EXPECT_EQ(must(read_epoch(volume_.dir(), EpochId{896})), std::nullopt);
  EXPECT_EQ(must(read_epoch(volume_.dir(), EpochId{897})), all[896]);
  EXPECT_EQ(must(read_last_epoch(volume_.dir())), all.back());
  ASSERT_OK(manifest.let_go_before(EpochId{1000}, 300));
  EXPECT_EQ(must(read()), kept) << "what was let go of stays so";
  // Goes on, also once it is opened anew.
  manifest = open();
  ASSERT_OK(manifest.append(std::vector{SealedEpoch{EpochId{1001}, 1, Lsn{1}, Lsn{2}, 3}}));
  EXPECT_EQ(must(read()).size(), kept.size() + 1);
}

TEST_F(Epochs, ZerosBehindTheFirstEntriesAreDamage) {
  auto manifest = open();
  std::vector<SealedEpoch> all;
  for (uint64_t n = 1; n <= 300; ++n) all.push_back({EpochId{n}, n, Lsn{n}, Lsn{n}, n});
  ASSERT_OK(manifest.append(all));
  poke(volume_.path() + "/epochs", 64 * 64, std::string(64 * 64, '\0'));
  EXPECT_FALSE(read());
  EXPECT_FALSE(read_epoch(volume_.dir(), EpochId{70}));
}

}  // namespace
}  // namespace epochfs::journal
