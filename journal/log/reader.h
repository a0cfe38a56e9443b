// Reader: what does the journal of a volume say from here on?
//
// Replays the records of a live journal, or of a copied folder, in order. It does not disturb the
// mount: it only reads, and takes no lock. It reports damage between records and steps over it; it
// never guesses. LogView (log_view.h) finds few records among many.
//
// Threads: one for each JournalReader; the functions, any.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "journal/base/format.h"
#include "journal/log/record.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {

struct Damage {
  Lsn at{};
  uint64_t bytes = 0;
  DecodeError error = DecodeError::kNone;
};

class JournalReader {
 public:
  // Borrows the volume, which must outlive the reader.
  explicit JournalReader(const Volume& volume);

  // Calls f for each record from `from` on, in order, until f returns false. `from` is where a
  // record begins, or Lsn{0} for the oldest one. Records that are appended meanwhile may or may not
  // come. `damage`, if given, collects what was stepped over before the newest seal; a hole behind
  // that may be a record that is being copied at this moment.
  Result<void> read(Lsn from, const std::function<bool(const Record&)>& f,
                    std::vector<Damage>* damage = nullptr);

  // The same for a journal that nobody writes: collects damage up to the last record. Returns the
  // position behind the last record, or `from` if there is none.
  Result<Lsn> read_all(Lsn from, const std::function<bool(const Record&)>& f,
                       std::vector<Damage>* damage);

  // The first position that can still be read.
  Result<Lsn> oldest();

 private:
  const Volume& volume_;
};

// The segment files of a volume folder: index -> file name.
Result<std::map<uint64_t, std::string>> list_segments(int volume_dir);
std::string segment_name(uint64_t index);

// Refuses a segment that would reach beyond kPositionLimit (kCorrupt). To be asked before anything
// is computed with the number of a segment file.
Result<void> check_segment_number(uint64_t index, uint64_t segment_bytes, const std::string& file);

// The header of a segment file. Layout in FORMAT.md.
// Writes it to `out`, which is aligned to eight bytes. The magic comes last, atomically.
void write_segment_header(std::span<std::byte> out, const Uuid& lineage, uint64_t index,
                          uint64_t segment_bytes);
// Errors name the file: damaged or of another volume (kCorrupt), or a newer version.
Result<void> check_segment_header(std::span<const std::byte> in, const Uuid& lineage,
                                  uint64_t index, uint64_t segment_bytes, const std::string& file);

// Walks the records of one segment, given as its bytes (header included) and the position `base` of
// the first of them. Steps over bytes that are no record to the next valid record. Bytes behind the
// last record are the end of the log, not damage. `end` gets the position behind the last record.
void scan_segment(std::span<const std::byte> segment, uint64_t base, Lsn from,
                  const std::function<bool(const Record&)>& f, std::vector<Damage>* damage,
                  Lsn& end);

}  // namespace epochfs::journal
