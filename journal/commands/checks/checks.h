// Checks: is every byte of a journal's folder as journal/FORMAT.md says? One function for
// each kind of file; each says what is wrong, where, what is lost by it and what to do.
// Changes nothing. In a live journal, what is being written at this moment is left out.
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
    kDamage,  // something that had been there is not, or cannot be trusted
    kNote,    // out of the ordinary, and explained
  };
  Severity severity = Severity::kDamage;
  std::string file;     // below the journal's folder
  uint64_t offset = 0;  // in it
  Lsn lsn{};            // 0: not in the log
  uint64_t bytes = 0;
  std::string problem, lost, remedy;
};
using Tell = std::function<void(Finding)>;

// What one kind of file held, for people.
struct Checked {
  uint64_t files = 0, entries = 0;
};

// What the log says of an epoch, to be held against the manifest.
struct EpochInLog {
  Lsn first{};           // record of it
  uint64_t records = 0;  // seals and padding left out
  std::optional<Lsn> seal;
  uint64_t barrier_ns = 0;
  bool gap = false;
};

// How the journal was left. Behind the newest barrier, a hole is damage in a clean one
// only: in a live one it may be a record that is being copied, in an unclean one the
// record of a writer that was stopped.
enum class Left { kClean, kUnclean, kLive };

class LogCheck {
 public:
  // Errors: the folder cannot be read at all.
  static Result<LogCheck> run(const Volume& volume, Left left, const Tell& tell);

  Checked checked;
  Lsn oldest{}, end{};
  Lsn settled{};  // the newest seal that was published when it began
  std::map<uint64_t, EpochInLog> epochs;
  bool damaged = false;  // so counts cannot be held against anything

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
Result<Checked> check_in_flight(const Volume& volume, Left left, const Tell& tell);
Result<Checked> check_settled(const Volume& volume, const Tell& tell);
Result<Checked> check_cursors(const Volume& volume, const Tell& tell);
Result<Checked> check_checkpoints(const Volume& volume, const Tell& tell);
Result<Checked> check_labels(const Volume& volume, const Tell& tell);
Result<Checked> check_pre_images(const Volume& volume, const Tell& tell);

}  // namespace epochfs::journal
