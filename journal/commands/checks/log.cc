// The log: is every segment there and whole, every record valid, and their order right?
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "journal/commands/checks/checks.h"
#include "journal/commands/query/time_text.h"

namespace epochfs::journal {
namespace {

constexpr const char* kRestore =
    "restore the file from a copy of the journal if there is one; else leave it: relationships "
    "that had not replicated these epochs compare all that could differ, by themselves";

std::string segment_file(const std::string& name) { return std::string(kSegmentsDir) + "/" + name; }

std::string moment(const RecordHead& head) {
  return fmt::format("epoch {}, {}", value(head.epoch), utc_time(head.time_ns));
}

}  // namespace

Result<LogCheck> LogCheck::run(const Volume& volume, Left left, const Tell& tell) {
  LogCheck check;
  std::map<uint64_t, Error> broken;
  EPOCHFS_TRY(LogView view, LogView::open(volume, &broken, left));
  check.oldest = view.oldest();
  check.end = view.oldest();
  check.settled = view.settled();
  check.sealed = view.sealed().value_or(Lsn{0});
  check.check_records(view, left, tell);
  check.check_files(view.volume(), view, broken, tell);
  return check;
}

void LogCheck::check_files(const Volume& volume, const LogView& view,
                           const std::map<uint64_t, Error>& broken, const Tell& tell) {
  const uint64_t size = volume.info().segment_bytes;
  auto names = list_segments(volume.dir());
  if (!names)
    return tell({.file = kSegmentsDir,
                 .problem = names.error().message(),
                 .lost = "the log",
                 .remedy = kRestore});
  checked.files = names->size();
  std::optional<uint64_t> before;
  for (const auto& [index, name] : *names) {
    const Lsn begin{index * size + kSegmentHeaderBytes};
    const bool holds_log = begin < end;
    if (before && index != *before + 1 && holds_log) {
      damaged = true;
      tell({.file = segment_file(segment_name(*before + 1)),
            .lsn = Lsn{(*before + 1) * size},
            .bytes = (index - *before - 1) * size,
            .problem = fmt::format("{} segments are missing here", index - *before - 1),
            .lost = "all records in them",
            .remedy = kRestore});
    }
    before = index;
    auto bad = broken.find(index);
    struct stat st;
    const std::string file = segment_file(name);
    if (bad != broken.end()) {
      damaged = true;
      tell({.file = file,
            .lsn = Lsn{index * size},
            .bytes = size,
            .problem = bad->second.message(),
            .lost = "all records in it",
            .remedy = kRestore});
    } else if (holds_log && ::fstatat(volume.dir(), file.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
               uint64_t(st.st_size) != size) {
      damaged = true;
      tell({.file = file,
            .offset = uint64_t(st.st_size),
            .lsn = Lsn{index * size + uint64_t(st.st_size)},
            .bytes = size - std::min(size, uint64_t(st.st_size)),
            .problem = fmt::format("the file has {} bytes instead of {}", st.st_size, size),
            .lost = "records behind its end",
            .remedy = kRestore});
    } else if (holds_log && !view.segment_of(begin)) {
      damaged = true;
      tell({.file = file,
            .lsn = Lsn{index * size},
            .bytes = size,
            .problem = "its header is missing, and records follow in later segments",
            .lost = "all records in it",
            .remedy = kRestore});
    }
  }
}

void LogCheck::check_records(const LogView& view, Left how, const Tell& tell) {
  for (const LogView::Segment& s : view.segments()) {
    std::vector<Damage> holes;
    bool any = false;
    const Lsn begin = s.begin();
    const Lsn behind = LogView::scan(
        s, begin,
        [&](const RecordView& record) {
          // A writer that was killed before its padding leaves zeros. Whole segments that are
          // missing are found by their files instead.
          const uint64_t left = value(end) % s.bytes.size() ? s.base - value(end) : 0;
          if (!any && end > oldest && value(end) < s.base && left >= kRecordHeaderBytes &&
              left < s.bytes.size()) {
            tell_hole(view, {end, left, DecodeError::kMissing}, tell);
          }
          any = true;
          check_record(record, s, tell);
          return true;
        },
        &holes);
    if (any) end = behind;
    for (const Damage& hole : holes) {
      if (hole.at < settled) {
        tell_hole(view, hole, tell);
      } else if (how == Left::kUnclean) {
        note_unfinished(view, hole, tell);
      }
    }
  }
  if (auto lost = view.lost_behind_end()) tell_hole(view, *lost, tell);
}

void LogCheck::check_record(const RecordView& view, const LogView::Segment& segment,
                            const Tell& tell) {
  const RecordHead& head = view.head;
  const uint64_t offset = value(head.lsn) - segment.base;
  auto wrong = [&](std::string problem) {
    damaged = true;
    tell({.file = segment_file(segment.name),
          .offset = offset,
          .lsn = head.lsn,
          .bytes = head.bytes,
          .problem = std::move(problem),
          .lost = "what this record said",
          .remedy = kRestore});
  };
  if (head.type == RecordType::kPadding) return;
  ++checked.entries;
  if (auto error = view.decode().error; error != DecodeError::kNone) {
    wrong(fmt::format("a record whose checksum is right has {}", decode_error_name(error)));
  }
  if (head.epoch == EpochId{0}) wrong("a record of epoch 0, which does not exist");
  if (checked.entries > 1 && head.epoch < last_.epoch) {
    wrong(fmt::format("a record of epoch {} behind one of epoch {}", value(head.epoch),
                      value(last_.epoch)));
  }
  auto& epoch = epochs[value(head.epoch)];
  if (epoch.seal && head.type != RecordType::kPadding) {
    wrong(fmt::format("a record behind the seal of its epoch {}", value(head.epoch)));
  }
  if (epoch.first == Lsn{0}) epoch.first = head.lsn;
  if (head.type == RecordType::kSeal) {
    epoch.seal = head.lsn;
    epoch.barrier_ns = head.time_ns;
  } else {
    ++epoch.records;
  }
  if (head.type == RecordType::kGap) {
    epoch.gap = true;
    const Decoded d = view.decode();
    tell({.severity = Finding::Severity::kNote,
          .file = segment_file(segment.name),
          .offset = offset,
          .lsn = head.lsn,
          .bytes = head.bytes,
          .problem = fmt::format("a gap (reason {}) was recorded: {}", d.record.mode, moment(head)),
          .lost = "some changes before it are not in the journal",
          .remedy = "nothing: relationships compare source and target because of it"});
  }
  last_ = head;
}

void LogCheck::note_unfinished(const LogView& view, const Damage& hole, const Tell& tell) {
  const uint64_t size = view.volume().info().segment_bytes;
  tell({.severity = Finding::Severity::kNote,
        .file = segment_file(segment_name(value(hole.at) / size)),
        .offset = value(hole.at) % size,
        .lsn = hole.at,
        .bytes = hole.bytes,
        .problem = "a record that was being written when the mount was stopped",
        .lost = "nothing: the in-flight file says what it was about",
        .remedy = "mount: recovery accounts for it"});
}

void LogCheck::tell_hole(const LogView& view, const Damage& hole, const Tell& tell) {
  damaged = true;
  const uint64_t size = view.volume().info().segment_bytes;
  const uint64_t index = value(hole.at) / size;
  // The records around the hole say when its contents were written.
  std::optional<RecordHead> before, after;
  for (const LogView::Segment& s : view.segments()) {
    if (after || s.index + 1 < index) continue;
    LogView::scan(s, s.begin(), [&](const RecordView& r) {
      if (r.head.type == RecordType::kPadding) return true;
      (r.head.lsn < hole.at ? before : after) = r.head;
      return !after;
    });
  }
  tell({.file = segment_file(segment_name(index)),
        .offset = value(hole.at) % size,
        .lsn = hole.at,
        .bytes = hole.bytes,
        .problem =
            fmt::format("{} bytes are no record ({})", hole.bytes, decode_error_name(hole.error)),
        .lost = fmt::format("at most {} records between {} and {}",
                            std::max<uint64_t>(1, hole.bytes / kRecordHeaderBytes),
                            before ? moment(*before) : "the beginning",
                            after ? moment(*after) : "the end"),
        .remedy = kRestore});
}

}  // namespace epochfs::journal
