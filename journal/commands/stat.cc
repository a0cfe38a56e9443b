// `epochfs journal stat`: how large is a journal, and what is in it?
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <iterator>

#include "journal/base/directory.h"
#include "journal/changes/checkpoints.h"
#include "journal/commands/json_line.h"
#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/query/log_query.h"
#include "journal/commands/query/time_text.h"
#include "journal/commands/subcommands.h"
#include "journal/log/in_flight.h"
#include "journal/volume/epochs.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {
namespace {

const CommandHelp kHelp = {
    "epochfs journal stat DIR-or-journal [--json]",
    "Prints sizes, the oldest and the newest record, records by operation, the open epoch, and\n"
    "whether the volume is mounted, was left clean, or unclean (the next mount recovers).\n"
    "Reads all records.\n"
    "Exit status: 0 printed, 1 failed, 2 usage, 5 damage was stepped over.",
};

struct Counts {
  uint64_t records = 0, bytes = 0;
};

struct Stat {
  std::string state = "new";
  uint32_t holder = 0;
  uint64_t file_bytes = 0;
  RecordHead oldest, newest;
  Counts all;
  std::array<Counts, kLastRecordType + 1> by_type;
  uint64_t sealed = 0, open_records = 0;
  InFlightSeen in_flight;
  uint64_t preimage_bytes = 0;
  uint64_t checkpoints = 0, checkpoint_bytes = 0;
};

// Bytes that the files in a folder of the volume take up on disk.
uint64_t stored_bytes(int volume_dir, const char* folder) {
  auto dir = open_directory(volume_dir, folder);
  if (!dir) return 0;
  uint64_t bytes = 0;
  (void)for_each_entry(dir->get(), folder, [&](const char* name) {
    struct stat st;
    if (::fstatat(dir->get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
      bytes += uint64_t(st.st_blocks) * 512;
    }
  });
  return bytes;
}

void count_records(const LogView& view, Stat& stat, std::vector<Damage>& damage) {
  LogQuery query(view, {}, view.end());
  query.forward(
      [&](const RecordView& record) {
        const RecordHead& head = record.head;
        if (stat.all.records == 0) stat.oldest = head;
        stat.newest = head;
        for (Counts* counts : {&stat.all, &stat.by_type[size_t(head.type)]}) {
          ++counts->records;
          counts->bytes += head.bytes;
        }
        if (value(head.epoch) > stat.sealed && head.type != RecordType::kSeal) ++stat.open_records;
        return true;
      },
      damage);
}

Result<Stat> measure(const OpenedJournal& journal, const LogView& view,
                     std::vector<Damage>& damage) {
  Stat stat;
  const int dir = journal.volume.dir();
  EPOCHFS_TRY(stat.in_flight, look_at_in_flight(dir));
  EPOCHFS_TRY(bool mounted, journal.mounted());
  if (mounted) {
    EPOCHFS_TRY(int holder, journal.volume.holder());
    stat.holder = uint32_t(holder);
  }
  if (mounted) {
    stat.state = "mounted";
  } else if (stat.in_flight.started) {
    stat.state = stat.in_flight.clean ? "clean" : "unclean";
  } else if (!view.segments().empty()) {
    stat.state = "unclean";  // how it was left is unknown
  }
  EPOCHFS_TRY(auto last, read_last_epoch(dir));
  stat.sealed = last ? value(last->epoch) : 0;
  stat.file_bytes = stored_bytes(dir, kSegmentsDir);
  stat.preimage_bytes = stored_bytes(dir, kPreimagesDir);
  stat.checkpoint_bytes = stored_bytes(dir, kCheckpointsDir);
  EPOCHFS_TRY(auto checkpoints, list_checkpoints(journal.volume));
  stat.checkpoints = checkpoints.size();
  count_records(view, stat, damage);
  return stat;
}

double bytes_a_record(const Stat& s) {
  return s.all.records ? double(s.all.bytes) / double(s.all.records) : 0;
}

void print_text(const Volume& volume, const LogView& view, const Stat& s, std::string& out) {
  auto row = [&](const char* name, const std::string& what) {
    fmt::format_to(std::back_inserter(out), "{:<16}{}\n", name, what);
  };
  auto moment = [&](const RecordHead& head) {
    if (s.all.records == 0) return std::string("-");
    std::string text = fmt::format("LSN {} of ", value(head.lsn));
    LocalTime().append(head.time_ns, text);
    return text;
  };
  row("journal", escape(volume.path()));
  row("lineage", volume.info().lineage.to_string());
  row("backing", escape(volume.info().backing_path));
  row("state", s.holder ? fmt::format("{} by process {}", s.state, s.holder) : s.state);
  row("segments", fmt::format("{} of {} bytes, {} bytes stored", view.segments().size(),
                              volume.info().segment_bytes, s.file_bytes));
  row("oldest record", moment(s.oldest));
  row("newest record", moment(s.newest));
  row("records", fmt::format("{}, {} bytes, {:.1f} bytes each", s.all.records, s.all.bytes,
                             bytes_a_record(s)));
  for (size_t i = 0; i < s.by_type.size(); ++i) {
    const Counts& c = s.by_type[i];
    if (c.records)
      row("",
          fmt::format("{:<12}{:>12}{:>16} bytes", type_name(RecordType(i)), c.records, c.bytes));
  }
  row("epochs", fmt::format("{} sealed; {} is open, with {} records", s.sealed, s.sealed + 1,
                            s.open_records));
  row("in flight",
      fmt::format("{} slots filled{}", s.in_flight.filled.size(),
                  s.in_flight.records_lost ? "; records were lost for want of room" : ""));
  if (s.checkpoints) {
    row("checkpoints", fmt::format("{}, {} bytes stored", s.checkpoints, s.checkpoint_bytes));
  }
  if (s.preimage_bytes) row("pre-images", fmt::format("{} bytes stored", s.preimage_bytes));
}

void print_json(const Volume& volume, const LogView& view, const Stat& s, std::string& out) {
  capnp::MallocMessageBuilder message;
  auto o = message.initRoot<rpc::JournalStat>();
  o.setJournal(escape(volume.path()));
  o.setLineage(volume.info().lineage.to_string());
  o.setBacking(escape(volume.info().backing_path));
  o.setCreatedNs(volume.info().created_ns);
  o.setState(s.state);
  o.setHolder(s.holder);
  o.setSegments(view.segments().size());
  o.setSegmentBytes(volume.info().segment_bytes);
  o.setFileBytes(s.file_bytes);
  o.setUsedBytes(s.all.bytes);
  o.setOldestLsn(value(s.oldest.lsn));
  o.setNewestLsn(value(s.newest.lsn));
  o.setOldestTimeNs(s.oldest.time_ns);
  o.setNewestTimeNs(s.newest.time_ns);
  o.setRecords(s.all.records);
  o.setBytesPerRecord(bytes_a_record(s));
  const auto types = std::count_if(s.by_type.begin(), s.by_type.end(),
                                   [](const Counts& c) { return c.records > 0; });
  auto list = o.initByType(unsigned(types));
  unsigned at = 0;
  for (size_t i = 0; i < s.by_type.size(); ++i) {
    if (s.by_type[i].records == 0) continue;
    list[at].setOperation(type_name(RecordType(i)));
    list[at].setRecords(s.by_type[i].records);
    list[at++].setBytes(s.by_type[i].bytes);
  }
  o.setSealedEpochs(s.sealed);
  o.setOpenEpoch(s.sealed + 1);
  o.setRecordsInOpenEpoch(s.open_records);
  o.setSlotsFilled(s.in_flight.filled.size());
  o.setRecordsLost(s.in_flight.records_lost);
  o.setPreImageBytes(s.preimage_bytes);
  o.setCheckpoints(s.checkpoints);
  o.setCheckpointBytes(s.checkpoint_bytes);
  JsonLine<rpc::JournalStat>().append(o, out);
}

}  // namespace

Result<ExitStatus> journal_stat(const Arguments& arguments) {
  Options options;
  options.argument(kJournalArgument).flag("json", "one JSON object");
  EPOCHFS_TRY(auto parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto journal, open_journal(parsed.text(kJournalArgument)));
  EPOCHFS_TRY(const OpenedLog log, journal.open_log());
  const LogView& view = log.view;
  std::vector<Damage> damage;
  EPOCHFS_TRY(Stat stat, measure(journal, view, damage));
  Output out;
  const bool json = parsed.has("json");
  json ? print_json(journal.volume, view, stat, out.text())
       : print_text(journal.volume, view, stat, out.text());
  EPOCHFS_DO(out.flush());
  return tell_damage(log, damage, ExitStatus::kOk);
}

}  // namespace epochfs::journal
