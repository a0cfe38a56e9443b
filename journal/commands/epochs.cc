// `epochfs journal epochs`: which epochs are there, what did each change, and who has it?
#include <capnp/message.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "journal/commands/json_line.h"
#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/query/filter.h"
#include "journal/commands/query/log_query.h"
#include "journal/commands/query/net_effect.h"
#include "journal/commands/query/time_text.h"
#include "journal/commands/subcommands.h"
#include "journal/volume/cursors.h"
#include "journal/volume/epochs.h"
#include "journal/volume/labels.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {
namespace {

const CommandHelp kHelp = {
    "epochfs journal epochs DIR-or-journal [--epoch A..B] [--limit N] [--no-net] [--reverse] "
    "[--json]",
    "Prints the epochs, oldest first, one on a line: number, local time of the barrier, state,\n"
    "records, what they come to (names that mean something else now, files that changed,\n"
    "bytes written that are still there), and for each relationship whether its target has\n"
    "it; last comes the label that it was given. States: open, sealed, released (no\n"
    "relationship needs it any more). For the net figures the records are read: --limit and\n"
    "--no-net make it quick where there are many. \"-\" stands where the records are no longer\n"
    "there, or not all of them.\n"
    "Exit status: 0 listed, 1 failed, 2 usage, 4 no epoch matched, 5 damage was met.",
};

struct Row {
  SealedEpoch epoch;
  bool open = false;
  std::optional<NetCounts> net;
  std::string label;
};

const char* state_of(const Row& row, const CursorMap& cursors) {
  if (row.open) return "open";
  bool needed = cursors.empty();
  for (const auto& [id, at] : cursors) needed = needed || at.epoch < row.epoch.epoch;
  return needed ? "sealed" : "released";
}

// Sealed epochs and the open one, if they are within the range; at most the newest `limit` of them.
Result<std::vector<Row>> choose(const Volume& volume, const EpochRange& range, uint64_t limit) {
  EPOCHFS_TRY(auto sealed, read_epochs(volume.dir()));
  std::vector<Row> rows;
  for (const SealedEpoch& e : sealed) {
    if (range.holds(e.epoch)) rows.push_back({.epoch = e});
  }
  // Not their count: entries of old epochs may have been released.
  const EpochId open = sealed.empty() ? EpochId{1} : next(sealed.back().epoch);
  if (range.holds(open)) {
    SealedEpoch e{.epoch = open, .begin = sealed.empty() ? Lsn{0} : sealed.back().seal};
    rows.push_back({.epoch = e, .open = true});
  }
  if (rows.size() > limit) rows.erase(rows.begin(), rows.end() - long(limit));
  return rows;
}

// Whether something that is missing belongs to the epoch, or may.
bool lacks_records(const Row& row, const OpenedLog& log, const std::vector<Damage>& damage) {
  const uint64_t size = log.view.volume().info().segment_bytes;
  auto within = [&](uint64_t begin, uint64_t bytes) {
    return (row.open || begin <= value(row.epoch.seal)) &&
           begin + std::min(bytes, UINT64_MAX - begin) > value(row.epoch.begin);
  };
  return std::any_of(damage.begin(), damage.end(),
                     [&](const Damage& d) { return within(value(d.at), d.bytes); }) ||
         std::any_of(log.broken.begin(), log.broken.end(), [&](const auto& segment) {
           return segment.first < kPositionLimit / size && within(segment.first * size, size);
         });
}

// Reads the records of the rows once, in order, for their net figures and the open epoch's count.
// What an epoch came to is unknown if not all of its records are there.
void add_records(const OpenedLog& log, std::vector<Row>& rows, bool net,
                 std::vector<Damage>& damage) {
  auto row = rows.begin();
  // An epoch whose first records were released gets no net figures: they would be wrong.
  const auto begin_of = [](const Row& r) {
    return std::max(r.epoch.begin, Lsn{kSegmentHeaderBytes});
  };
  while (row != rows.end() && !row->open && begin_of(*row) < log.view.oldest()) ++row;
  if (!net) row = rows.end() - 1;
  if (row == rows.end()) return;
  NetEffect effect;
  const auto first = row;
  const LogBounds bounds{
      .first_epoch = value(row->epoch.epoch),
      .last_epoch = rows.back().open ? UINT64_MAX : value(rows.back().epoch.epoch)};
  LogQuery(log.view, bounds, log.view.end())
      .forward(
          [&](const RecordView& record) {
            while (record.head.epoch > row->epoch.epoch) {
              if (net) row->net = effect.finish();
              if (++row == rows.end()) return false;
            }
            if (record.head.type == RecordType::kSeal) return true;
            if (record.head.epoch < row->epoch.epoch) return true;
            if (row->open) ++row->epoch.records;
            const Decoded d = record.decode();
            if (net && d.error == DecodeError::kNone) effect.add(d.record);
            if (d.error != DecodeError::kNone) {
              damage.push_back({record.head.lsn, record.head.bytes, d.error});
            }
            return true;
          },
          damage);
  for (; net && row != rows.end(); ++row) row->net = effect.finish();
  for (row = first; row != rows.end(); ++row) {
    if (lacks_records(*row, log, damage)) row->net.reset();
  }
}

// A label that cannot be read is left out. `verify` names it.
Result<void> add_labels(const Volume& volume, std::vector<Row>& rows) {
  EPOCHFS_TRY(auto labelled, list_labels(volume.dir()));
  for (Row& row : rows) {
    if (row.open || !std::binary_search(labelled.begin(), labelled.end(), row.epoch.epoch))
      continue;
    if (auto label = read_label(volume.dir(), row.epoch)) row.label = label->value_or("");
  }
  return {};
}

std::string count_or_dash(const Row& row, uint64_t NetCounts::*count) {
  return row.net ? fmt::format("{}{}", (*row.net).*count, row.net->gap ? "+" : "") : "-";
}

void print_line(const Row& row, const CursorMap& cursors, LocalTime& time, std::string& out) {
  auto to = std::back_inserter(out);
  fmt::format_to(to, "{:>8}  ", value(row.epoch.epoch));
  row.open ? void(out += fmt::format("{:<35}", "-")) : time.append(row.epoch.barrier_ns, out);
  fmt::format_to(to, "  {:<8}  {:>10}  {:>8}  {:>8}  {:>14}", state_of(row, cursors),
                 row.epoch.records, count_or_dash(row, &NetCounts::names),
                 count_or_dash(row, &NetCounts::files), count_or_dash(row, &NetCounts::bytes));
  for (const auto& [id, at] : cursors) {
    fmt::format_to(to, "  {}:{}", id, at.epoch >= row.epoch.epoch ? "replicated" : "pending");
  }
  if (!row.label.empty()) fmt::format_to(to, "  label:{}", escape(row.label));
  out += '\n';
}

void print_json(const Row& row, const CursorMap& cursors, const JsonLine<rpc::JournalEpoch>& json,
                std::string& out) {
  capnp::MallocMessageBuilder message;
  auto e = message.initRoot<rpc::JournalEpoch>();
  e.setEpoch(value(row.epoch.epoch));
  e.setState(state_of(row, cursors));
  e.setBarrierTimeNs(row.epoch.barrier_ns);
  if (!row.open) e.setBarrierTime(utc_time(row.epoch.barrier_ns));
  e.setBeginLsn(value(row.epoch.begin));
  e.setSealLsn(value(row.epoch.seal));
  e.setRecords(row.epoch.records);
  if (row.net) {
    auto net = e.initNet();
    net.setNames(row.net->names);
    net.setFiles(row.net->files);
    net.setBytes(row.net->bytes);
    net.setGap(row.net->gap);
  }
  auto list = e.initRelationships(unsigned(cursors.size()));
  unsigned i = 0;
  for (const auto& [id, at] : cursors) {
    list[i].setId(id);
    list[i++].setReplicated(at.epoch >= row.epoch.epoch);
  }
  if (!row.label.empty()) e.setLabel(row.label);
  json.append(e, out);
}

Result<void> print(const std::vector<Row>& rows, const CursorMap& cursors, bool json) {
  const JsonLine<rpc::JournalEpoch> line;
  LocalTime time;
  Output out;
  for (const Row& row : rows) {
    json ? print_json(row, cursors, line, out.text()) : print_line(row, cursors, time, out.text());
    out.line_done();
    if (out.failed()) break;
  }
  return out.flush();
}

}  // namespace

Result<ExitStatus> journal_epochs(const Arguments& arguments) {
  Options options;
  options.text("epoch", "A..B", "only these; also A.., ..B and A")
      .number("limit", "N", "only the newest N of them")
      .flag("no-net", "leave the net figures out, and read no records")
      .flag("reverse", "newest first")
      .flag("json", "one JSON object a line")
      .argument(kJournalArgument);
  EPOCHFS_TRY(auto parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EpochRange range;
  if (auto epochs = parsed.maybe_text("epoch")) {
    EPOCHFS_TRY(range, parse_epochs(*epochs));
  }
  const uint64_t limit = parsed.maybe_number("limit").value_or(UINT64_MAX);
  EPOCHFS_TRY(auto journal, open_journal(parsed.text(kJournalArgument)));
  EPOCHFS_TRY(CursorMap cursors, read_cursors(journal.volume.dir()));
  EPOCHFS_TRY(auto rows, choose(journal.volume, range, limit));
  std::vector<Damage> damage;
  const bool net = !parsed.has("no-net");
  OpenedLog log{LogView(journal.volume), {}};
  if (!rows.empty() && (net || rows.back().open)) {
    EPOCHFS_TRY(log, journal.open_log());
    add_records(log, rows, net, damage);
  }
  EPOCHFS_DO(add_labels(journal.volume, rows));
  if (parsed.has("reverse")) std::reverse(rows.begin(), rows.end());
  EPOCHFS_DO(print(rows, cursors, parsed.has("json")));
  return tell_damage(log, damage, rows.empty() ? ExitStatus::kNoMatch : ExitStatus::kOk);
}

}  // namespace epochfs::journal
