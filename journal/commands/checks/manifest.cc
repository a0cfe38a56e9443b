// The manifest: is every entry whole, do epochs follow each other, and does the log agree?
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "journal/base/format.h"
#include "journal/base/regular_file.h"
#include "journal/commands/checks/checks.h"

namespace epochfs::journal {
namespace {

constexpr const char* kRemakeManifest =
    "unmount, move the file away and mount again: it is made anew from the log; epochs whose "
    "segments were released are not in it then, and relationships compare source and target";

struct ManifestCheck {
  const LogCheck& log;
  Left left;
  const Tell& tell;

  void wrong(const SealedEpoch& e, std::string problem) const {
    tell({.file = kEpochsFile,
          .offset = (value(e.epoch) - 1) * kEpochEntryBytes,
          .lsn = e.seal,
          .bytes = kEpochEntryBytes,
          .problem = std::move(problem),
          .lost = fmt::format("where epoch {} begins or ends", value(e.epoch)),
          .remedy = kRemakeManifest});
  }
  void entry(const SealedEpoch& e, const SealedEpoch* before) const;
  void against_log(const SealedEpoch& e) const;
};

void ManifestCheck::entry(const SealedEpoch& e, const SealedEpoch* before) const {
  if (before && e.begin != before->seal) {
    wrong(e, fmt::format("epoch {} begins at LSN {}, the one before it ends at {}", value(e.epoch),
                         value(e.begin), value(before->seal)));
  }
  if (e.seal < e.begin) {
    wrong(e,
          fmt::format("epoch {} ends at LSN {}, before it begins", value(e.epoch), value(e.seal)));
  }
  // Epochs whose records were released cannot be compared any more.
  const bool sealed_meanwhile = left == Left::kLive && e.seal > log.sealed;
  if (e.seal >= log.oldest && !log.damaged && !sealed_meanwhile) against_log(e);
}

void ManifestCheck::against_log(const SealedEpoch& e) const {
  auto found = log.epochs.find(value(e.epoch));
  const bool empty = found == log.epochs.end();
  const bool sealed = !empty && found->second.seal.has_value();
  if (sealed && *found->second.seal != e.seal) {
    wrong(e, fmt::format("the seal of epoch {} is at LSN {}, not at {}", value(e.epoch),
                         value(*found->second.seal), value(e.seal)));
  }
  if (sealed && found->second.barrier_ns != e.barrier_ns) {
    wrong(e, fmt::format("the barrier of epoch {} has another time than its seal", value(e.epoch)));
  }
  if (!sealed && e.seal >= log.end) {
    wrong(e, fmt::format("epoch {} ends at LSN {}, behind the end of the log", value(e.epoch),
                         value(e.seal)));
  } else if (!sealed) {
    tell({.severity = Finding::Severity::kNote,
          .file = kEpochsFile,
          .offset = (value(e.epoch) - 1) * kEpochEntryBytes,
          .lsn = e.seal,
          .bytes = kEpochEntryBytes,
          .problem = fmt::format("epoch {} has no seal record: there was no room, or it was lost",
                                 value(e.epoch)),
          .lost = "nothing that the gap behind it does not say",
          .remedy = "nothing"});
    return;
  }
  // Records that found no room are counted too. A gap stands for them, so counts differ then.
  const bool whole = !empty && e.begin >= log.oldest && !found->second.gap;
  if (sealed && whole && found->second.records != e.records) {
    wrong(e, fmt::format("epoch {} should hold {} records, and holds {}", value(e.epoch), e.records,
                         found->second.records));
  }
}

// The first entry at or behind entry `n` that does not lie in a hole of the file, as far as the
// file system tells: a file that claims to be huge is not read through.
uint64_t entry_with_data(int fd, uint64_t n) {
  const off_t data = ::lseek(fd, off_t((n - 1) * kEpochEntryBytes), SEEK_DATA);
  if (data < 0) return errno == ENXIO ? UINT64_MAX : n;
  return uint64_t(data) / kEpochEntryBytes + 1;
}

// The first entry behind the damaged entry `n` that is whole, or the last one if that comes first.
Result<uint64_t> behind_damage(int fd, uint64_t n, uint64_t count) {
  uint64_t at = n + 1;
  while (at < count) {
    at = std::max(at, std::min(count, entry_with_data(fd, at)));
    EPOCHFS_TRY(auto e, read_epoch_entry(fd, EpochId{at}));
    if (e || at == count) return at;
    ++at;
  }
  return at;
}

}  // namespace

Result<Checked> check_manifest(const Volume& volume, const LogCheck& log, Left left,
                               const Tell& tell) {
  const bool live = left == Left::kLive;
  Checked checked;
  auto file = open_regular(volume.dir(), kEpochsFile);
  if (!file && file.error().code != ENOENT) return tl::unexpected(file.error());
  if (!file) {
    if (log.checked.entries > 0 && !live) {
      tell({.file = kEpochsFile,
            .problem = "the file is missing",
            .lost = "the list of epochs",
            .remedy = "mount the volume: it is made anew from the log"});
    }
    return checked;
  }
  const UniqueFd fd = *std::move(file);
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return fail_errno("stat epoch manifest");
  checked.files = 1;
  const uint64_t count = uint64_t(st.st_size) / kEpochEntryBytes;
  if (st.st_size % kEpochEntryBytes && !live) {
    tell({.severity = Finding::Severity::kNote,
          .file = kEpochsFile,
          .offset = count * kEpochEntryBytes,
          .bytes = uint64_t(st.st_size) % kEpochEntryBytes,
          .problem = "the file ends within an entry: power was lost while it was written",
          .lost = "nothing that the log does not say",
          .remedy = "mount: it is written again"});
  }
  const ManifestCheck check{log, left, tell};
  std::optional<SealedEpoch> before;
  EPOCHFS_TRY(EpochId first, first_kept_epoch(fd.get()));
  for (uint64_t n = value(first), behind; n <= count; n = behind) {
    EPOCHFS_TRY(auto e, read_epoch_entry(fd.get(), EpochId{n}));
    behind = n + 1;
    if (e) {
      ++checked.entries;
      check.entry(*e, before ? &*before : nullptr);
    } else if (n < count || !live) {
      EPOCHFS_TRY(behind, behind_damage(fd.get(), n, count));
      const uint64_t damaged = behind - n;
      tell({.severity = n < count ? Finding::Severity::kDamage : Finding::Severity::kNote,
            .file = kEpochsFile,
            .offset = (n - 1) * kEpochEntryBytes,
            .bytes = damaged * kEpochEntryBytes,
            .problem = damaged == 1 ? fmt::format("the entry of epoch {} is damaged", n)
                                    : fmt::format("the entries of epochs {} to {} are damaged", n,
                                                  behind - 1),
            .lost = n < count ? "where that epoch begins and ends, until the log is asked"
                              : "nothing, if power was lost while it was written",
            .remedy = n < count ? kRemakeManifest : "mount: it is written again"});
    }
    before = e;
  }
  return checked;
}

}  // namespace epochfs::journal
