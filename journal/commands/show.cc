// `epochfs journal show`: what does one record say?
#include <fmt/format.h>

#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/record_text.h"
#include "journal/commands/subcommands.h"

namespace epochfs::journal {
namespace {

const CommandHelp kHelp = {
    "epochfs journal show DIR-or-journal LSN [--json]",
    "Prints all that the record at this LSN says, one field a line; with --json one object,\n"
    "as `epochfs journal list` does.\n"
    "Exit status: 0 shown, 1 failed, 2 usage, 4 no record begins there, 5 it is damaged.",
};

// Whether a record that cannot be read any more may have begun at the position.
bool is_lost(const OpenedLog& log, Lsn at) {
  const LogView& view = log.view;
  if (log.broken.count(value(at) / view.volume().info().segment_bytes)) return true;
  const auto tail = view.lost_behind_end();
  if (tail && tail->at <= at) return value(at) - value(tail->at) < tail->bytes;
  if (at < view.oldest() || at >= view.settled() || at >= view.end()) return false;
  const LogView::Segment* s = view.segment_of(at);
  return !s || (at >= s->begin() && view.record_at(at).error != DecodeError::kNone);
}

// No record begins at the position. Says which record holds it, if any.
tl::unexpected<Error> no_record(const OpenedLog& log, Lsn at) {
  const LogView& view = log.view;
  const LogView::Segment* s = view.segment_of(at);
  std::optional<Lsn> around;
  if (s) {
    LogView::scan(*s, s->begin(), [&](const RecordView& r) {
      const uint64_t end = value(r.head.lsn) + r.head.bytes;
      if (r.head.lsn < at && value(at) < end) around = r.head.lsn;
      return end <= value(at);
    });
  }
  const std::string what = fmt::format("show record {}: ", value(at));
  if (around) {
    return fail(
        fmt::format("{}none begins there; it lies within the record at {}", what, value(*around)),
        0, ExitStatus::kNoMatch);
  }
  if (is_lost(log, at)) {
    return fail(what + "there is damage; see: epochfs journal verify " + view.volume().path(), 0,
                ExitStatus::kCorrupt);
  }
  return fail(fmt::format("{}there is none; the journal holds {} to {}", what, value(view.oldest()),
                          value(view.end())),
              0, ExitStatus::kNoMatch);
}

}  // namespace

Result<ExitStatus> journal_show(const Arguments& arguments) {
  Options options;
  options.argument(kJournalArgument).number_argument("lsn").flag("json", "one JSON object");
  EPOCHFS_TRY(auto parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto journal, open_journal(parsed.text(kJournalArgument)));
  const Lsn at{parsed.number("lsn")};
  EPOCHFS_TRY(const OpenedLog log, journal.open_log());
  const LogView& view = log.view;
  const Decoded d = view.record_at(at);
  if (d.error != DecodeError::kNone || d.record.type == RecordType::kPadding) {
    return no_record(log, at);
  }
  PathResolver paths(view, {});
  EPOCHFS_TRY(bool mounted, journal.mounted());
  RecordText text{Programs(mounted)};
  Output out;
  const ShownRecord shown = show(d.record, paths);
  parsed.has("json") ? text.json(shown, out.text()) : text.all(shown, out.text());
  EPOCHFS_DO(out.flush());
  return ExitStatus::kOk;
}

}  // namespace epochfs::journal
