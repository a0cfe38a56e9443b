#include "journal/volume/epochs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "journal/base/regular_file.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {
namespace {

// One entry of the manifest, FORMAT.md. Entry n of the file is epoch n + 1.
struct Entry {
  uint64_t epoch;
  uint64_t barrier_ns;
  uint64_t begin, seal;
  uint64_t records;
  uint64_t reserved[2];
  uint64_t checksum;
};
static_assert(sizeof(Entry) == kEpochEntryBytes);

// Entries are released by whole blocks, which then read as zeros.
constexpr uint64_t kEntriesInBlock = kEpochBlockBytes / sizeof(Entry);

uint64_t checksum(const Entry& e) { return XXH3_64bits(&e, offsetof(Entry, checksum)); }

bool valid(const Entry& e, uint64_t index) {
  return e.checksum == checksum(e) && e.epoch == index + 1;
}

SealedEpoch decode(const Entry& e) {
  return {EpochId{e.epoch}, e.barrier_ns, Lsn{e.begin}, Lsn{e.seal}, e.records};
}

Result<UniqueFd> open_manifest(int volume_dir) {
  auto file = open_regular(volume_dir, kEpochsFile);
  if (!file && file.error().code == ENOENT) return UniqueFd();
  return file;
}

Result<uint64_t> entry_count(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return fail_errno("stat epoch manifest");
  return uint64_t(st.st_size) / sizeof(Entry);
}

// nullopt: the entry is damaged.
Result<std::optional<SealedEpoch>> read_entry(int fd, uint64_t index) {
  Entry e;
  EPOCHFS_TRY(size_t size, pread_full(fd, &e, sizeof e, index * sizeof e, "epoch manifest"));
  if (size != sizeof e || !valid(e, index)) return std::optional<SealedEpoch>();
  return std::optional<SealedEpoch>(decode(e));
}

tl::unexpected<Error> damaged(uint64_t index) {
  return fail(fmt::format("read epoch manifest: entry of epoch {} is damaged", index + 1), 0,
              ExitStatus::kCorrupt);
}

// The number of entries up to the last valid one. Only the very last may be torn.
Result<uint64_t> valid_count(int fd) {
  EPOCHFS_TRY(uint64_t count, entry_count(fd));
  if (count == 0) return uint64_t{0};
  EPOCHFS_TRY(auto last, read_entry(fd, count - 1));
  return last ? count : count - 1;
}

// The index of the first entry behind the released blocks.
Result<uint64_t> first_index(int fd, uint64_t count) {
  uint64_t at = 0;
  std::array<char, kEpochBlockBytes> block;
  while (at + kEntriesInBlock < count) {
    const off_t data = ::lseek(fd, off_t(at * sizeof(Entry)), SEEK_DATA);
    if (data < 0) return fail_errno("seek in epoch manifest");
    at = std::max(at, uint64_t(data) / kEpochBlockBytes * kEntriesInBlock);
    EPOCHFS_TRY(size_t size,
                pread_full(fd, block.data(), block.size(), at * sizeof(Entry), "epoch manifest"));
    const std::string_view bytes(block.data(), size);
    if (bytes.find_first_not_of('\0') != std::string_view::npos) break;
    at += kEntriesInBlock;
  }
  return at;
}

}  // namespace

Result<EpochId> first_kept_epoch(int manifest) {
  EPOCHFS_TRY(uint64_t count, valid_count(manifest));
  EPOCHFS_TRY(uint64_t first, first_index(manifest, count));
  return EpochId{first + 1};
}

Result<std::vector<SealedEpoch>> read_epochs(int volume_dir) {
  std::vector<SealedEpoch> out;
  EPOCHFS_TRY(UniqueFd fd, open_manifest(volume_dir));
  if (!fd) return out;
  EPOCHFS_TRY(uint64_t count, valid_count(fd.get()));
  EPOCHFS_TRY(uint64_t first, first_index(fd.get(), count));
  for (uint64_t i = first; i < count; ++i) {
    EPOCHFS_TRY(auto entry, read_entry(fd.get(), i));
    if (!entry) return damaged(i);
    out.push_back(*entry);
  }
  return out;
}

Result<std::optional<SealedEpoch>> read_epoch(int volume_dir, EpochId epoch) {
  EPOCHFS_TRY(UniqueFd fd, open_manifest(volume_dir));
  if (!fd || value(epoch) == 0) return std::optional<SealedEpoch>();
  EPOCHFS_TRY(uint64_t count, valid_count(fd.get()));
  if (count == 0) return std::optional<SealedEpoch>();
  uint64_t index = std::min(value(epoch), count) - 1;
  EPOCHFS_TRY(auto entry, read_entry(fd.get(), index));
  if (entry) return entry;
  EPOCHFS_TRY(uint64_t first, first_index(fd.get(), count));
  return index < first ? Result<std::optional<SealedEpoch>>(std::nullopt) : damaged(index);
}

Result<std::optional<SealedEpoch>> read_last_epoch(int volume_dir) {
  return read_epoch(volume_dir, EpochId{UINT64_MAX});
}

Result<std::optional<SealedEpoch>> read_epoch_entry(int manifest, EpochId epoch) {
  if (value(epoch) == 0 || value(epoch) > kMaxEpochEntries) return std::optional<SealedEpoch>();
  return read_entry(manifest, value(epoch) - 1);
}

Result<EpochManifest> EpochManifest::open(Storage& storage, int volume_dir) {
  EpochManifest manifest;
  manifest.storage_ = &storage;
  manifest.fd_.reset(::openat(volume_dir, kEpochsFile, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!manifest.fd_) return fail_errno("open epoch manifest");
  EPOCHFS_DO(storage.sync_directory("manifest-create", volume_dir, "volume"));
  EPOCHFS_TRY(uint64_t count, valid_count(manifest.fd_.get()));
  manifest.last_ = EpochId{count};
  return manifest;
}

Result<void> EpochManifest::append(std::span<const SealedEpoch> entries) {
  if (entries.empty()) return {};
  uint64_t index = value(last_);
  for (const SealedEpoch& s : entries) {
    // Without one entry, all that follow it would be unreadable.
    EPOCHFS_CHECK(value(s.epoch) == index + 1);
    Entry e{};
    e.epoch = value(s.epoch);
    e.barrier_ns = s.barrier_ns;
    e.begin = value(s.begin);
    e.seal = value(s.seal);
    e.records = s.records;
    e.checksum = checksum(e);
    EPOCHFS_DO(pwrite_full(fd_.get(), &e, sizeof e, index++ * sizeof e, "epoch manifest"));
  }
  EPOCHFS_DO(storage_->sync_data("manifest-append", fd_.get(), "epoch manifest"));
  std::atomic_ref(last_).store(entries.back().epoch);
  return {};
}

Result<void> EpochManifest::let_go_before(EpochId oldest_needed, uint64_t keep) {
  const uint64_t last = value(std::atomic_ref(last_).load());
  const uint64_t kept_from = last > keep ? last - keep : 0;
  const uint64_t needed_from = std::max<uint64_t>(value(oldest_needed), 1) - 1;
  const uint64_t end = std::min(kept_from, needed_from) / kEntriesInBlock * kEpochBlockBytes;
  if (end <= let_go_) return {};
  const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  // Not every file system can do this; the room is not given back then.
  if (::fallocate(fd_.get(), how, 0, off_t(end)) != 0 && errno != EOPNOTSUPP) {
    return fail_errno("give room of epoch manifest back");
  }
  let_go_ = end;
  return {};
}

Result<void> EpochManifest::truncate_after(EpochId last) {
  if (::ftruncate(fd_.get(), off_t(value(last) * sizeof(Entry))) != 0) {
    return fail_errno("truncate epoch manifest");
  }
  last_ = last;
  return storage_->sync_data("manifest-truncate", fd_.get(), "epoch manifest");
}

}  // namespace epochfs::journal
