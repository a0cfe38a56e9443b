// Checkpoint: what did a range of sealed epochs change, once their records are gone? One file holds
// the fold of that range (journal/changes/change_set.h). Files and names are in ascending order.
// So two checkpoints are merged by reading each once, and one file is found without reading the
// rest. Layout: FORMAT.md.
//
// It does not know which checkpoints a volume has, or which to merge
// (journal/changes/checkpoints.h).
#pragma once

#include <xxhash.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "journal/base/storage.h"
#include "journal/base/unix.h"
#include "journal/changes/change_set.h"

namespace epochfs::journal {

struct CheckpointInfo {
  Uuid lineage;
  EpochId first{}, last{};  // the folded epochs, both included
  Lsn seal{};               // seal of `last`; later records are not in the fold
  bool gap = false;         // records were missing: anything may have changed
  Lsn gap_lsn{};
  uint64_t records = 0;
  uint64_t files = 0, names = 0;

  bool operator==(const CheckpointInfo&) const = default;
};

// "FIRST-LAST", 16 hex digits each.
std::string checkpoint_name(EpochId first, EpochId last);
bool parse_checkpoint_name(const std::string& name, EpochId& first, EpochId& last);

// One checkpoint, mapped for reading. Immutable; any thread. Stays valid after its file is removed.
class Checkpoint {
 public:
  // Checks everything: checksums, lengths, order. Errors name the file. The status is kCorrupt,
  // except for a newer version.
  static Result<std::shared_ptr<const Checkpoint>> open(int dir, const std::string& name,
                                                        const Uuid& lineage);
  // The same for bytes in memory, which must outlive the checkpoint.
  static Result<std::shared_ptr<const Checkpoint>> parse(std::span<const std::byte> bytes,
                                                         const std::string& name);
  ~Checkpoint();

  const CheckpointInfo& info() const { return info_; }
  uint64_t bytes() const { return bytes_.size(); }
  // nullopt: the checkpoint has no entry for the file.
  std::optional<FileChange> find(const FileId& id) const;

  // Iterate over all files, and over all names, in ascending order. Borrow the checkpoint. next()
  // returns false at the end.
  class Files {
   public:
    explicit Files(const Checkpoint& c);
    bool next(FileId& id, FileChange& change);

   private:
    std::span<const std::byte> left_;
  };
  class Names {
   public:
    explicit Names(const Checkpoint& c);
    bool next(NameKey& key, NameChange& change);

   private:
    std::span<const std::byte> left_;
  };

 private:
  Checkpoint() = default;
  Result<void> take_in(const std::string& name);
  Result<void> check_entries(const std::string& name) const;

  std::span<const std::byte> bytes_;
  bool mapped_ = false;
  CheckpointInfo info_;
  std::span<const std::byte> files_, index_, names_;
};
using CheckpointPtr = std::shared_ptr<const Checkpoint>;

// Calls f(id, change) for every file, then f(key, change) for every name, in ascending order. f may
// modify its arguments.
template <typename F>
void for_each_change(const Checkpoint& checkpoint, F&& f) {
  FileId id;
  FileChange file;
  for (Checkpoint::Files files(checkpoint); files.next(id, file);) f(id, file);
  NameKey key;
  NameChange name;
  for (Checkpoint::Names names(checkpoint); names.next(key, name);) f(key, name);
}

// Writes a checkpoint: first files, then names, each in ascending order (checked: aborts). Errors
// of writing are returned by finish(). One thread.
class CheckpointWriter {
 public:
  // Until finish() the file is called NAME.new, which readers ignore. A remnant of that name is
  // overwritten.
  static Result<std::unique_ptr<CheckpointWriter>> create(Storage& storage, int dir,
                                                          const CheckpointInfo& info);
  ~CheckpointWriter();  // removes the file unless it is finished

  void add(const FileId& id, const FileChange& change);
  void add(const NameKey& key, const NameChange& change);
  // Returns when the checkpoint is durable under its name.
  Result<void> finish();

 private:
  CheckpointWriter(Storage& storage, int dir, const CheckpointInfo& info);
  void write(std::span<const std::byte> bytes);
  void flush();
  void end_files();

  Storage& storage_;
  const int dir_;
  CheckpointInfo info_;
  const std::string name_;
  UniqueFd fd_;
  bool finished_ = false;
  Result<void> written_;
  std::vector<std::byte> buffer_, entry_, index_;
  uint64_t position_ = 0;  // in the file, buffer included
  uint64_t index_at_ = 0, names_at_ = 0;
  FileId last_file_;
  NameKey last_name_;
  XXH3_state_t* checksum_ = nullptr;
};

}  // namespace epochfs::journal
