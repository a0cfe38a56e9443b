#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>
#include <memory>

#include "journal/commands/checks/checks.h"
#include "journal/log/in_flight.h"
#include "journal/log/settled.h"
#include "journal/volume/cursors.h"
#include "journal/volume/labels.h"

namespace epochfs::journal {
namespace {

constexpr uint64_t kEntryBytes = 64;

constexpr const char* kRemakeManifest =
    "unmount, move the file away and mount again: it is made anew from the log; epochs whose "
    "segments were released are not in it then, and relationships compare source and target";

struct ManifestCheck {
  const LogCheck& log;
  Left left;
  const Tell& tell;

  void wrong(const SealedEpoch& e, std::string problem) const {
    tell({.file = kEpochsFile,
          .offset = (value(e.epoch) - 1) * kEntryBytes,
          .lsn = e.seal,
          .bytes = kEntryBytes,
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
  // What was released can no longer be compared.
  const bool sealed_meanwhile = left == Left::kLive && e.seal > log.settled;
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
          .offset = (value(e.epoch) - 1) * kEntryBytes,
          .lsn = e.seal,
          .bytes = kEntryBytes,
          .problem = fmt::format("epoch {} has no seal record: there was no room, or it was lost",
                                 value(e.epoch)),
          .lost = "nothing that the gap behind it does not say",
          .remedy = "nothing"});
    return;
  }
  // Losses for want of room count as changes; a gap stands for them.
  const bool whole = !empty && e.begin >= log.oldest && !found->second.gap;
  if (sealed && whole && found->second.records != e.records) {
    wrong(e, fmt::format("epoch {} should hold {} records, and holds {}", value(e.epoch), e.records,
                         found->second.records));
  }
}

}  // namespace

Result<Checked> check_manifest(const Volume& volume, const LogCheck& log, Left left,
                               const Tell& tell) {
  const bool live = left == Left::kLive;
  Checked checked;
  UniqueFd fd(::openat(volume.dir(), kEpochsFile, O_RDONLY | O_CLOEXEC));
  if (!fd && errno != ENOENT) return fail_errno("open epoch manifest");
  if (!fd) {
    if (log.checked.entries > 0 && !live) {
      tell({.file = kEpochsFile,
            .problem = "the file is missing",
            .lost = "the list of epochs",
            .remedy = "mount the volume: it is made anew from the log"});
    }
    return checked;
  }
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return fail_errno("stat epoch manifest");
  checked.files = 1;
  const uint64_t count = uint64_t(st.st_size) / kEntryBytes;
  if (st.st_size % kEntryBytes && !live) {
    tell({.severity = Finding::Severity::kNote,
          .file = kEpochsFile,
          .offset = count * kEntryBytes,
          .bytes = uint64_t(st.st_size) % kEntryBytes,
          .problem = "the file ends within an entry: power was lost while it was written",
          .lost = "nothing that the log does not say",
          .remedy = "mount: it is written again"});
  }
  const ManifestCheck check{log, left, tell};
  std::optional<SealedEpoch> before;
  EPOCHFS_TRY(EpochId first, first_kept_epoch(fd.get()));
  for (uint64_t n = value(first); n <= count; ++n) {
    EPOCHFS_TRY(auto e, read_epoch_entry(fd.get(), EpochId{n}));
    if (e) {
      ++checked.entries;
      check.entry(*e, before ? &*before : nullptr);
    } else if (n < count || !live) {
      tell({.severity = n < count ? Finding::Severity::kDamage : Finding::Severity::kNote,
            .file = kEpochsFile,
            .offset = (n - 1) * kEntryBytes,
            .bytes = kEntryBytes,
            .problem = fmt::format("the entry of epoch {} is damaged", n),
            .lost = n < count ? "where that epoch begins and ends, until the log is asked"
                              : "nothing, if power was lost while it was written",
            .remedy = n < count ? kRemakeManifest : "mount: it is written again"});
    }
    before = e;
  }
  return checked;
}

Result<Checked> check_in_flight(const Volume& volume, Left left, const Tell& tell) {
  Checked checked;
  auto seen = look_at_in_flight(volume.dir());
  auto wrong = [&](uint64_t offset, uint64_t bytes, std::string problem) {
    tell({.file = kInFlightFile,
          .offset = offset,
          .bytes = bytes,
          .problem = std::move(problem),
          .lost = "which changes were under way when the last mount ended",
          .remedy = "move the file away and mount: the volume counts as stopped with the machine, "
                    "and relationships compare source and target"});
  };
  if (!seen && seen.error().status == ExitStatus::kCorrupt) {
    wrong(0, kInFlightFileBytes, seen.error().message());
    return checked;
  }
  if (!seen) return tl::unexpected(seen.error());
  if (!seen->exists) return checked;
  checked.files = 1;
  checked.entries = seen->filled.size();
  if (seen->file_bytes != kInFlightFileBytes && seen->started) {
    wrong(seen->file_bytes, 0,
          fmt::format("the file has {} bytes instead of {}", seen->file_bytes, kInFlightFileBytes));
  }
  if (left == Left::kLive || !seen->started) return checked;
  for (size_t slot : seen->damaged) {
    wrong(in_flight_slot_offset(slot), kInFlightSlotBytes,
          fmt::format("slot {} is filled, and holds no intent", slot));
  }
  if (seen->clean && !seen->filled.empty()) {
    wrong(in_flight_slot_offset(seen->filled[0]), kInFlightSlotBytes,
          "a slot is filled although the last mount ended by itself");
  }
  return checked;
}

Result<Checked> check_settled(const Volume& volume, const Tell& tell) {
  if (::faccessat(volume.dir(), kSettledFile, F_OK, 0) != 0) return Checked{};  // none yet
  EPOCHFS_TRY(auto settled, read_settled(volume.dir()));
  // A mount may be writing it.
  if (!settled) {
    EPOCHFS_TRY(settled, read_settled(volume.dir()));
  }
  if (!settled) {
    tell({.file = kSettledFile,
          .problem = "the mark is damaged",
          .lost = "up to where the backing directory was known to be durable",
          .remedy = "mount it: the mark is made anew, and should the machine have stopped, more "
                    "files are compared than need be"});
  }
  return Checked{.files = 1, .entries = settled ? 1u : 0u};
}

Result<Checked> check_cursors(const Volume& volume, const Tell& tell) {
  Checked checked;
  auto wrong = [&](const std::string& id, std::string problem) {
    tell({.file = std::string(kCursorsDir) + "/" + id,
          .problem = std::move(problem),
          .lost = "up to where this relationship needs the journal no more",
          .remedy = "start the daemon: it writes the cursor anew when it has met the target"});
  };
  auto newest = read_last_epoch(volume.dir());
  EPOCHFS_TRY(auto ids, list_cursors(volume.dir()));
  for (const std::string& id : ids) {
    ++checked.files;
    auto cursor = read_cursor(volume.dir(), id);
    if (!cursor && cursor.error().code == 0) {
      wrong(id, cursor.error().message());
    } else if (!cursor) {
      return tl::unexpected(cursor.error());
    } else if (*cursor && newest && (*cursor)->epoch > (*newest ? (*newest)->epoch : EpochId{0})) {
      wrong(id, fmt::format("it is at epoch {}, which is not sealed yet", value((*cursor)->epoch)));
    }
    ++checked.entries;
  }
  return checked;
}

Result<Checked> check_labels(const Volume& volume, const Tell& tell) {
  Checked checked;
  EPOCHFS_TRY(auto epochs, list_labels(volume.dir()));
  for (EpochId epoch : epochs) {
    ++checked.files;
    // Whether it is of this very epoch is no matter here: others are ignored.
    auto label = read_label(volume.dir(), SealedEpoch{.epoch = epoch});
    if (label) {
      ++checked.entries;
    } else if (label.error().status == ExitStatus::kCorrupt) {
      tell({.file = fmt::format("{}/{}", kLabelsDir, value(epoch)),
            .problem = label.error().message(),
            .lost = "what the epoch was called",
            .remedy = "remove it"});
    } else {
      return tl::unexpected(label.error());
    }
  }
  return checked;
}

Result<Checked> check_pre_images(const Volume& volume, const Tell& tell) {
  // FORMAT.md, "Pre-image logs". Logs in use have no name; one that has was copied, or
  // its maker died within two system calls.
  struct Header {
    char magic[8];
    uint32_t version;
    uint32_t given_up;
    uint64_t tail;
  };
  constexpr uint64_t kHeaderBytes = 4096;
  Checked checked;
  UniqueFd fd(::openat(volume.dir(), kPreimagesDir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return checked;
  if (!fd) return fail_errno("open directory pre-images");
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd.get()), ::closedir);
  if (!dir) return fail_errno("read directory pre-images");
  fd.release();
  while (dirent* entry = ::readdir(dir.get())) {
    UniqueFd file(::openat(::dirfd(dir.get()), entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    struct stat st;
    if (!file || ::fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    ++checked.files;
    Header h{};
    EPOCHFS_TRY(size_t size, pread_full(file.get(), &h, sizeof h, 0, entry->d_name));
    const bool valid = size == sizeof h && std::memcmp(h.magic, "EPOCHPRE", 8) == 0 &&
                       h.version == 1 && h.tail >= kHeaderBytes && h.tail <= uint64_t(st.st_size);
    if (valid) continue;
    tell({.severity = Finding::Severity::kNote,
          .file = fmt::format("{}/{}", kPreimagesDir, escape(entry->d_name)),
          .bytes = size,
          .problem = "it is no whole pre-image log",
          .lost = "nothing: no pin outlives its mount",
          .remedy = "remove it"});
  }
  return checked;
}

}  // namespace epochfs::journal
