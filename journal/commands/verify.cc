// `epochfs journal verify`: is every byte as it should be, and what is to be done if not?
#include <capnp/message.h>
#include <fmt/format.h>

#include <iterator>

#include "journal/commands/checks/checks.h"
#include "journal/commands/json_line.h"
#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/subcommands.h"
#include "journal/control/printing.h"
#include "journal/log/in_flight.h"
#include "journal/log/settled.h"
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
                 f.lsn == Lsn{0} ? "" : fmt::format(" (LSN {})", value(f.lsn)),
                 printable(f.problem), f.lost, f.remedy);
}

void print_json(const Finding& f, const JsonLine<rpc::JournalFinding>& json, std::string& out) {
  capnp::MallocMessageBuilder message;
  auto o = message.initRoot<rpc::JournalFinding>();
  o.setFile(f.file);
  o.setOffset(f.offset);
  o.setLsn(value(f.lsn));
  o.setBytes(f.bytes);
  o.setSeverity(f.severity == Finding::Severity::kDamage ? "damage" : "note");
  o.setProblem(printable(f.problem));
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
  // A check that ended with an error: something else stands in the place of the file or folder, or
  // it could not be read just now.
  void tell_unreadable(const char* file, const Error& error) {
    if (error.status == ExitStatus::kCorrupt) {
      return tell({.file = file,
                   .problem = error.message(),
                   .lost = "what it held",
                   .remedy = "restore it from a copy of the journal; without one, unmount, move it "
                             "away and mount again: relationships compare what could differ"});
    }
    unchecked_ = true;
    fmt::print(stderr, "epochfs: check {}: {}\n", file, printable(error.message()));
  }
  Result<ExitStatus> end() {
    if (!json_) {
      out_.text() += damage_      ? fmt::format("damaged in {} places\n", damage_)
                     : unchecked_ ? "not all could be checked\n"
                                  : "sound\n";
    }
    EPOCHFS_DO(out_.flush());
    return damage_ ? ExitStatus::kCorrupt : unchecked_ ? ExitStatus::kFailed : ExitStatus::kOk;
  }

 private:
  const bool json_;
  const JsonLine<rpc::JournalFinding> line_;
  uint64_t damage_ = 0;
  bool unchecked_ = false;
  Output out_;
};

// Makes one check after the other. One that cannot be made does not keep the others from it.
Result<ExitStatus> verify(const OpenedJournal& journal, bool json) {
  const Volume& volume = journal.volume;
  EPOCHFS_TRY(Left left, journal.how_left());
  Report report(json);
  const Tell tell = [&](Finding f) { report.tell(f); };
  const auto check = [&](const char* what, const char* file, const Result<Checked>& checked) {
    checked ? report.count(what, *checked) : report.tell_unreadable(file, checked.error());
  };
  auto log = LogCheck::run(volume, left, tell);
  check("log", kSegmentsDir, log.map([](const LogCheck& l) { return l.checked; }));
  LogCheck unknown;
  unknown.damaged = true;
  check("epochs", kEpochsFile, check_manifest(volume, log ? *log : unknown, left, tell));
  if (auto lock = check_lock(volume); !lock) report.tell_unreadable(kLockFile, lock.error());
  check("in flight", kInFlightFile, check_in_flight(volume, left, tell));
  check("settled", kSettledFile, check_settled(volume, tell));
  check("cursors", kCursorsDir, check_cursors(volume, tell));
  check("checkpoints", kCheckpointsDir, check_checkpoints(volume, tell));
  check("labels", kLabelsDir, check_labels(volume, tell));
  check("pre-images", kPreimagesDir, check_pre_images(volume, tell));
  return report.end();
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
  return report.end();
}

}  // namespace epochfs::journal
