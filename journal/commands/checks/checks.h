// Checks: is every byte of a journal's folder as journal/FORMAT.md says? There is one function for
// each kind of file. It tells what is wrong, where, what is lost, and what to do. It changes
// nothing. In a live journal it leaves out what is being written at that moment.
//
// A function returns an error only if it could not check. One thread.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "journal/log/log_view.h"
#include "journal/volume/epochs.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

struct Finding {
  enum class Severity {
    kDamage,  // something that was written is missing, or cannot be trusted
    kNote,    // unusual, but explained
  };
  Severity severity = Severity::kDamage;
  std::string file;     // path below the journal's folder
  uint64_t offset = 0;  // in the file
  Lsn lsn{};            // 0: not in the log
  uint64_t bytes = 0;
  std::string problem, lost, remedy;
};
using Tell = std::function<void(Finding)>;

// How much was checked of one kind of file.
struct Checked {
  uint64_t files = 0, entries = 0;
};

// What the log says about an epoch. It is compared with the manifest.
struct EpochInLog {
  Lsn first{};           // its first record
  uint64_t records = 0;  // without seal and padding
  std::optional<Lsn> seal;
  uint64_t barrier_ns = 0;
  bool gap = false;
};

class LogCheck {
 public:
  // Errors: the folder cannot be read at all.
  static Result<LogCheck> run(const Volume& volume, Left left, const Tell& tell);

  Checked checked;
  Lsn oldest{}, end{};
  Lsn settled{};  // as of LogView
  Lsn sealed{};   // the newest published seal when the check began
  std::map<uint64_t, EpochInLog> epochs;
  bool damaged = false;  // then epochs are not compared with the manifest

 private:
  void check_files(const Volume& volume, const LogView& view,
                   const std::map<uint64_t, Error>& broken, const Tell& tell);
  void check_records(const LogView& view, Left left, const Tell& tell);
  void note_unfinished(const LogView& view, const Damage& hole, const Tell& tell);
  void check_record(const RecordView& view, const LogView::Segment& segment, const Tell& tell);
  void tell_hole(const LogView& view, const Damage& hole, const Tell& tell);
  RecordHead last_;
};

Result<Checked> check_manifest(const Volume& volume, const LogCheck& log, Left left,
                               const Tell& tell);
Result<Checked> check_lock(const Volume& volume);
Result<Checked> check_in_flight(const Volume& volume, Left left, const Tell& tell);
Result<Checked> check_settled(const Volume& volume, const Tell& tell);
Result<Checked> check_cursors(const Volume& volume, const Tell& tell);
Result<Checked> check_checkpoints(const Volume& volume, const Tell& tell);
Result<Checked> check_labels(const Volume& volume, const Tell& tell);
Result<Checked> check_pre_images(const Volume& volume, const Tell& tell);

}  // namespace epochfs::journal
