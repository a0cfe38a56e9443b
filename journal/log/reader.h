// Reader: what does the journal of a volume say from here on? Reads a live
// journal, or a copied folder, without disturbing the mount: plain reads, no
// lock. Damage between records is reported and stepped over, never guessed at.
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

  // Calls f for each record with lsn >= from, in order, until f returns false
  // or the end. `from` is where a record begins, or Lsn{0} for the oldest one.
  // Records that are being appended meanwhile may or may not come.
  // damage, if given, collects what was stepped over before the newest seal;
  // behind it a hole may be a record that is being copied at this moment.
  Result<void> read(Lsn from, const std::function<bool(const Record&)>& f,
                    std::vector<Damage>* damage = nullptr);

  // The same where nobody writes: damage up to the last record. Returns the
  // position after the last record, `from` if there is none.
  Result<Lsn> read_all(Lsn from, const std::function<bool(const Record&)>& f,
                       std::vector<Damage>* damage);

  // First LSN that can still be read.
  Result<Lsn> oldest();

 private:
  const Volume& volume_;
};

// Segment files present in a volume folder: index -> file name.
Result<std::map<uint64_t, std::string>> list_segments(int volume_dir);
std::string segment_name(uint64_t index);

// Refuses a segment that would reach beyond kPositionLimit (kCorrupt). Whoever computes with the
// number of a segment file asks first.
Result<void> check_segment_number(uint64_t index, uint64_t segment_bytes, const std::string& file);

// Segment header, at the beginning of every segment file. Layout in FORMAT.md.
// out is aligned to eight bytes.
void write_segment_header(std::span<std::byte> out, const Uuid& lineage, uint64_t index,
                          uint64_t segment_bytes);
// Errors name the file; kCorrupt, or a newer version.
Result<void> check_segment_header(std::span<const std::byte> in, const Uuid& lineage,
                                  uint64_t index, uint64_t segment_bytes, const std::string& file);

// Walks the records of one segment's bytes (header included) that begins at
// position `base`. Shared by reader and recovery. Bytes that are no record are
// stepped over to the next that is one; after the last, they are the end, no
// damage. `end` gets the position after the last valid record.
void scan_segment(std::span<const std::byte> segment, uint64_t base, Lsn from,
                  const std::function<bool(const Record&)>& f, std::vector<Damage>* damage,
                  Lsn& end);

}  // namespace epochfs::journal
