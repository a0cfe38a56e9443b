// Fuzz target: the epoch manifest. Every way to read it tells of the same epochs, numbered
// without gaps, or names the damage. Appending goes on behind them. The first byte of an
// input says whether the entries get the right checksums and numbers.

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "journal/volume/epochs.h"
#include "tests/fuzz/memory_folder.h"
#include "tests/fuzz/sealing.h"
#include "tests/fuzz/target.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"

namespace epochfs {
namespace {

constexpr size_t kEntry = 64;
enum Options : uint8_t { kSealEntries = 1, kNumberEntries = 2 };

struct NoSync : Storage {
  Result<void> sync_data(const char*, int, std::string_view) override { return {}; }
  Result<void> sync_directory(const char*, int, std::string_view) override { return {}; }
};

template <typename T>
void check_error(const Result<T>& result) {
  EPOCHFS_CHECK(result || (result.error().status == ExitStatus::kCorrupt &&
                           result.error().message().find("epoch") != std::string::npos));
}

void read(int dir, size_t file_bytes) {
  const auto all = journal::read_epochs(dir);
  const auto last = journal::read_last_epoch(dir);
  check_error(all);
  check_error(last);
  const uint64_t count = all ? all->size() : 0;
  // Whole blocks of zeros at the beginning were let go of.
  const uint64_t gone = count ? value((*all)[0].epoch) - 1 : 0;
  EPOCHFS_CHECK(gone % 64 == 0);
  if (all && gone == 0) {
    EPOCHFS_CHECK(count <= file_bytes / kEntry && count + 1 >= file_bytes / kEntry);
    EPOCHFS_CHECK(last && (count ? *last == all->back() : !*last));
    for (uint64_t i = 0; i < count; ++i) EPOCHFS_CHECK(value((*all)[i].epoch) == i + 1);
  }
  UniqueFd manifest(::openat(dir, journal::kEpochsFile, O_RDONLY | O_CLOEXEC));
  for (uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{2}, count, count + 1, uint64_t{1} << 32,
                     (uint64_t{1} << 57) + 1, (uint64_t{1} << 58) + 1, (uint64_t{1} << 63) + 2,
                     UINT64_MAX - 1, UINT64_MAX}) {
    const auto at = journal::read_epoch(dir, EpochId{n});
    check_error(at);
    const auto entry = journal::read_epoch_entry(manifest.get(), EpochId{n});
    EPOCHFS_CHECK(entry && (!*entry || value((*entry)->epoch) == n));
    if (!all) continue;
    const uint64_t found = std::min(n, gone + count);
    EPOCHFS_CHECK(at && (found > gone ? *at == (*all)[found - gone - 1] : !*at));
    EPOCHFS_CHECK((n > gone && n <= gone + count) == entry->has_value());
  }
}

void append(int dir) {
  NoSync storage;
  auto before = journal::read_epochs(dir);
  auto manifest = journal::EpochManifest::open(storage, dir);
  check_error(manifest);
  if (!manifest || !before || (!before->empty() && before->front().epoch != EpochId{1})) return;
  const uint64_t next_epoch = before->size() + 1;
  before->push_back({EpochId{next_epoch}, 1, Lsn{8}, Lsn{16}, 1});
  testing::must(manifest->append({&before->back(), 1}));
  EPOCHFS_CHECK(testing::must(journal::read_epochs(dir)) == *before);
  testing::must(manifest->truncate_after(EpochId{next_epoch / 2}));
  before->resize(next_epoch / 2);
  EPOCHFS_CHECK(testing::must(journal::read_epochs(dir)) == *before);
}

}  // namespace

namespace fuzz {

const uint64_t kShortRun = 30'000;

std::vector<std::string> seeds(testing::Random& random) {
  std::vector<std::string> out;
  NoSync storage;
  for (uint8_t options = 0; options < 4; ++options) {
    testing::TemporaryDirectory dir;
    UniqueFd fd = testing::must(open_directory(dir.path()));
    auto manifest = testing::must(journal::EpochManifest::open(storage, fd.get()));
    std::vector<journal::SealedEpoch> entries;
    for (uint64_t n = 1, last = random.below(6); n <= last; ++n) {
      entries.push_back(
          {EpochId{n}, random.u64(), Lsn{random.u64()}, Lsn{random.u64()}, random.u64()});
    }
    testing::must(manifest.append(entries));
    out.push_back(std::string(1, char(options)) +
                  testing::read_whole_file(dir / journal::kEpochsFile));
  }
  return out;
}

}  // namespace fuzz
}  // namespace epochfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace epochfs;
  if (size == 0) return 0;
  std::vector<std::byte> in(size - 1);
  if (!in.empty()) std::memcpy(in.data(), data + 1, in.size());
  for (size_t n = 0; n < in.size() / kEntry; ++n) {
    auto entry = std::span(in).subspan(n * kEntry, kEntry);
    const uint64_t number = n + 1;
    if (data[0] & kNumberEntries) std::memcpy(entry.data(), &number, sizeof number);
    if (data[0] & kSealEntries) fuzz::seal_before(entry, kEntry - 8);
  }
  epochfs::testing::write_file(fuzz::memory_folder() / journal::kEpochsFile,
                               {reinterpret_cast<const char*>(in.data()), in.size()});
  static const UniqueFd dir = epochfs::testing::must(open_directory(fuzz::memory_folder().path()));
  read(dir.get(), in.size());
  append(dir.get());
  return 0;
}
