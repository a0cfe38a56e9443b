// `epochfs journal list`: which records are in the log? Prints each, or counts them.
#include <fmt/format.h>

#include <cstdio>

#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/query/selection.h"
#include "journal/commands/record_text.h"
#include "journal/commands/subcommands.h"
#include "journal/commands/summary.h"

namespace epochfs::journal {
namespace {

const CommandHelp kHelp = {
    "epochfs journal list DIR-or-journal [FILTERS] [--reverse] [--limit N] [--summary BY] [--json]",
    "Prints the records of a journal, oldest first, one on a line: LSN, local time, epoch,\n"
    "operation, inode, uid, pid, command (of processes that still run), detail\n"
    "(OFFSET+LENGTH, a mode, an xattr's name) and last the path as it was then, escaped. "
    "\"#INODE\" stands for a directory whose name neither\n"
    "the journal nor the backing directory tells; \"(gone)\" follows the last name of a file\n"
    "that had none any more. Filters are all to be met; commas and repeated options name\n"
    "alternatives. With --json one object a line, with the names that journal/FORMAT.md\n"
    "lists.\n"
    "Exit status: 0 listed, 1 failed, 2 usage, 4 no record matched, 5 damage was stepped over.",
};

struct Wanted {
  RecordFilter filter;
  bool json = false, reverse = false, paths = true;
  uint64_t limit = UINT64_MAX;
  std::optional<SummaryBy> summary;
};

Result<Wanted> parse(const Parsed& given, const std::vector<std::string>& roots) {
  Wanted o;
  EPOCHFS_TRY(o.filter, RecordFilter::parse(given, roots, now_ns()));
  o.json = given.has("json");
  o.reverse = given.has("reverse");
  o.paths = !given.has("no-paths");
  o.limit = given.maybe_number("limit").value_or(UINT64_MAX);
  if (auto by = given.maybe_text("summary")) {
    EPOCHFS_TRY(o.summary, parse_summary(*by));
  }
  if (!o.paths && !o.filter.globs().empty()) {
    return fail("options --path and --no-paths exclude each other; leave one of them out", 0,
                ExitStatus::kUsage);
  }
  return o;
}

template <typename F>
void visit(const LogQuery& query, bool reverse, F&& f, std::vector<Damage>& damage) {
  reverse ? query.backward(f, damage) : query.forward(f, damage);
}

// Returns how many records were printed.
Result<uint64_t> print_records(const LogQuery& query, const Wanted& options, PathResolver& paths,
                               bool mounted, std::vector<Damage>& damage) {
  Selection selection(options.filter, paths);
  RecordText text{Programs(mounted)};
  Output out;
  uint64_t printed = 0;
  if (options.limit == 0) return uint64_t{0};
  visit(
      query, options.reverse,
      [&](const RecordView& view) {
        selection.choose(view, true, [&](const ShownRecord& shown) {
          options.json ? text.json(shown, out.text()) : text.line(shown, out.text());
          ++printed;
        });
        out.line_done();
        return printed < options.limit && !out.failed();
      },
      damage);
  EPOCHFS_DO(out.flush());
  return printed;
}

// Returns 0 if it had nothing to count.
Result<uint64_t> print_summary(const LogQuery& query, const Wanted& options, PathResolver& paths,
                               std::vector<Damage>& damage) {
  Selection selection(options.filter, paths);
  Summary summary(*options.summary);
  const bool with_path = *options.summary == SummaryBy::kPath;
  visit(
      query, false,
      [&](const RecordView& view) {
        selection.choose(view, with_path, [&](const ShownRecord& shown) { summary.add(shown); });
        return true;
      },
      damage);
  Output out;
  summary.print(options.json, options.reverse, options.limit, out.text());
  EPOCHFS_DO(out.flush());
  return uint64_t{!summary.empty()};
}

}  // namespace

Result<ExitStatus> journal_list(const Arguments& arguments) {
  Options options;
  RecordFilter::add_options(options);
  options.number("limit", "N", "at most N lines")
      .flag("reverse", "newest first; of a summary: the smallest counts first")
      .text("summary", "BY",
            "count instead, by path, writer or type: records, bytes written, time of the newest")
      .flag("no-paths", "print names behind the inode of their directory, and resolve nothing")
      .flag("json", "one JSON object a line")
      .argument(kJournalArgument);
  EPOCHFS_TRY(auto parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  // Before anything is opened: a wrong option is wrong for every journal.
  EPOCHFS_TRY([[maybe_unused]] Wanted checked, parse(parsed, {}));
  EPOCHFS_TRY(auto journal, open_journal(parsed.text(kJournalArgument)));
  EPOCHFS_TRY(Wanted o, parse(parsed, journal.roots));

  EPOCHFS_TRY(const OpenedLog log, journal.open_log());
  const LogView& view = log.view;
  EPOCHFS_TRY(bool mounted, journal.mounted());
  const LogQuery query(view, o.filter.bounds(), view.end());
  PathResolver paths(view, {.names = o.paths, .globs = o.filter.globs()});
  std::vector<Damage> damage;
  EPOCHFS_TRY(const uint64_t found, o.summary ? print_summary(query, o, paths, damage)
                                              : print_records(query, o, paths, mounted, damage));
  return tell_damage(log, damage, found ? ExitStatus::kOk : ExitStatus::kNoMatch);
}

}  // namespace epochfs::journal
