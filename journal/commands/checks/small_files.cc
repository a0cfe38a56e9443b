// The small files: is each as the format says? In-flight slots, the mark of what is settled,
// cursors, labels, pre-image logs.
#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>

#include "journal/base/directory.h"
#include "journal/base/format.h"
#include "journal/base/regular_file.h"
#include "journal/commands/checks/checks.h"
#include "journal/log/in_flight.h"
#include "journal/log/settled.h"
#include "journal/volume/cursors.h"
#include "journal/volume/labels.h"

namespace epochfs::journal {

Result<Checked> check_lock(const Volume& volume) {
  EPOCHFS_TRY([[maybe_unused]] bool unlocked, volume.wait_unlocked(0));
  return Checked{};
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
  if (::faccessat(volume.dir(), kSettledFile, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
    return Checked{};  // none yet
  EPOCHFS_TRY(auto settled, read_settled(volume.dir()));
  // A mount may be writing it just now: read it again.
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
    // Whether the label belongs to this very epoch does not matter here. Others are ignored.
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
  // FORMAT.md, "Pre-image logs". Logs in use have no name. One that has a name was copied, or its
  // maker died between two system calls.
  struct Header {
    char magic[8];
    uint32_t version;
    uint32_t given_up;
    uint64_t tail;
  };
  Checked checked;
  auto dir = open_directory(volume.dir(), kPreimagesDir);
  if (!dir && dir.error().code == ENOENT) return checked;
  if (!dir) return tl::unexpected(dir.error());
  EPOCHFS_DO(for_each_entry(dir->get(), kPreimagesDir, [&](const char* name) -> Result<void> {
    auto file = open_regular(dir->get(), name);
    if (!file && file.error().status != ExitStatus::kCorrupt) return {};
    ++checked.files;
    struct stat st {};
    Header h{};
    size_t size = 0;
    if (file && ::fstat(file->get(), &st) == 0) {
      EPOCHFS_TRY(size, pread_full(file->get(), &h, sizeof h, 0, name));
    }
    const bool valid = size == sizeof h && has_magic(h.magic, kPreImageMagic) && h.version != 0 &&
                       h.version <= kPreImageFormatVersion && h.tail >= kPreImageHeaderBytes &&
                       h.tail <= uint64_t(st.st_size);
    if (valid) return {};
    tell({.severity = Finding::Severity::kNote,
          .file = fmt::format("{}/{}", kPreimagesDir, escape(name)),
          .bytes = size,
          .problem = "it is no whole pre-image log",
          .lost = "nothing: no pin outlives its mount",
          .remedy = "remove it"});
    return {};
  }));
  return checked;
}

}  // namespace epochfs::journal
