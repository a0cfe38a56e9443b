// `epochfs journal verify`: is every byte as it should be, and what is to be done if not?
#include <capnp/message.h>
#include <fmt/format.h>

#include <iterator>

#include "journal/commands/checks/checks.h"
#include "journal/commands/json_line.h"
#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/subcommands.h"
#include "journal/log/in_flight.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {
namespace {

const CommandHelp kHelp = {
    "epochfs journal verify DIR-or-journal [--json]",
    "Checks every checksum and every invariant of a journal: segments, records and their order,\n"
    "epochs against the manifest, in-flight slots, the mark of what is\n"
    "settled, cursors, checkpoints, pre-image logs. Prints what\n"
    "it finds: file and offset, what is lost, what to do; with --json one object a line. Of a\n"
    "mounted volume, what is behind its newest barrier may be just being written and is not\n"
    "complained of. Reads the whole journal, and changes nothing.\n"
    "Exit status: 0 sound, 1 could not be checked, 2 usage, 5 damage was found.",
};

void print_text(const Finding& f, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}: {} offset {}{}: {}\n  lost: {}\n  to do: {}\n",
                 f.severity == Finding::Severity::kDamage ? "damage" : "note", f.file, f.offset,
                 f.lsn == Lsn{0} ? "" : fmt::format(" (LSN {})", value(f.lsn)), f.problem, f.lost,
                 f.remedy);
}

void print_json(const Finding& f, const JsonLine<rpc::JournalFinding>& json, std::string& out) {
  capnp::MallocMessageBuilder message;
  auto o = message.initRoot<rpc::JournalFinding>();
  o.setFile(f.file);
  o.setOffset(f.offset);
  o.setLsn(value(f.lsn));
  o.setBytes(f.bytes);
  o.setSeverity(f.severity == Finding::Severity::kDamage ? "damage" : "note");
  o.setProblem(f.problem);
  o.setLost(f.lost);
  o.setRemedy(f.remedy);
  json.append(o, out);
}

// Prints and counts findings.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  void tell(const Finding& f) {
    damage_ += f.severity == Finding::Severity::kDamage;
    json_ ? print_json(f, line_, out_.text()) : print_text(f, out_.text());
    out_.line_done();
  }
  void count(const char* what, const Checked& checked) {
    if (json_) return;
    fmt::format_to(std::back_inserter(out_.text()), "{:<12}{:>8} files {:>12} entries\n", what,
                   checked.files, checked.entries);
  }
  Result<uint64_t> end() {
    if (!json_) {
      out_.text() += damage_ ? fmt::format("damaged in {} places\n", damage_) : "sound\n";
    }
    EPOCHFS_DO(out_.flush());
    return damage_;
  }

 private:
  const bool json_;
  const JsonLine<rpc::JournalFinding> line_;
  uint64_t damage_ = 0;
  Output out_;
};

Result<Left> how_left(const OpenedJournal& journal) {
  EPOCHFS_TRY(bool mounted, journal.mounted());
  if (mounted) return Left::kLive;
  auto slots = look_at_in_flight(journal.volume.dir());
  return slots && slots->started && slots->clean ? Left::kClean : Left::kUnclean;
}

Result<ExitStatus> verify(const OpenedJournal& journal, bool json) {
  const Volume& volume = journal.volume;
  EPOCHFS_TRY(Left left, how_left(journal));
  Report report(json);
  const Tell tell = [&](Finding f) { report.tell(f); };
  EPOCHFS_TRY(LogCheck log, LogCheck::run(volume, left, tell));
  report.count("log", log.checked);
  EPOCHFS_TRY(Checked manifest, check_manifest(volume, log, left, tell));
  report.count("epochs", manifest);
  EPOCHFS_TRY(Checked slots, check_in_flight(volume, left, tell));
  report.count("in flight", slots);
  EPOCHFS_TRY(Checked settled, check_settled(volume, tell));
  report.count("settled", settled);
  EPOCHFS_TRY(Checked cursors, check_cursors(volume, tell));
  report.count("cursors", cursors);
  EPOCHFS_TRY(Checked checkpoints, check_checkpoints(volume, tell));
  report.count("checkpoints", checkpoints);
  EPOCHFS_TRY(Checked labels, check_labels(volume, tell));
  report.count("labels", labels);
  EPOCHFS_TRY(Checked logs, check_pre_images(volume, tell));
  report.count("pre-images", logs);
  EPOCHFS_TRY(const uint64_t damage, report.end());
  return damage ? ExitStatus::kCorrupt : ExitStatus::kOk;
}

}  // namespace

Result<ExitStatus> journal_verify(const Arguments& arguments) {
  Options options;
  options.argument(kJournalArgument).flag("json", "one JSON object for each finding");
  EPOCHFS_TRY(auto parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  const bool json = parsed.has("json");
  auto journal = open_journal(parsed.text(kJournalArgument));
  if (journal) return verify(*journal, json);
  if (journal.error().status != ExitStatus::kCorrupt) return tl::unexpected(journal.error());
  Report report(json);
  report.tell({.file = kVolumeFile,
               .problem = journal.error().message(),
               .lost = "which directory this is the journal of",
               .remedy = "restore the file from a copy of the journal; without one, move the "
                         "folder away: the next mount begins a new journal, and relationships "
                         "compare source and target"});
  EPOCHFS_TRY([[maybe_unused]] const uint64_t damage, report.end());
  return ExitStatus::kCorrupt;
}

}  // namespace epochfs::journal
