// Volume: which journal belongs to which directory?
//
// A state directory holds volumes/<lineage>/, one folder for each volume, laid out as FORMAT.md
// says. The file `volume` in it names the directory that it belongs to. Knows nothing of records.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "journal/base/format.h"
#include "journal/base/storage.h"
#include "journal/base/types.h"
#include "journal/base/unix.h"

namespace epochfs::journal {

constexpr const char* kDefaultStateDir = "/var/lib/epochfs";

// What identifies a backing directory beyond its path.
struct VolumeIdentity {
  uint64_t filesystem = 0;  // statfs f_fsid
  FileId root;              // of the backing directory itself

  bool operator==(const VolumeIdentity&) const = default;
};

struct VolumeInfo {
  Uuid lineage;
  VolumeIdentity identity;
  uint64_t created_ns = 0;
  uint64_t segment_bytes = 0;  // size of every segment file
  std::string backing_path;    // as it was when the volume was made; only for people
};

// The folder of one volume, open. Threads: immutable once made.
class Volume {
 public:
  const VolumeInfo& info() const { return info_; }
  const std::string& path() const { return path_; }
  int dir() const { return dir_.get(); }

  // Takes the exclusive lock that a mount holds for its lifetime. False: another process holds it.
  // The lock ends with the process.
  Result<bool> lock();
  // The process that holds the lock, or held it last. 0: unknown.
  Result<int> holder() const;
  // Waits until no process holds the lock, without taking it. False: the timeout came first.
  Result<bool> wait_unlocked(int timeout_ms) const;

  // Opens an existing volume folder. Errors: not a journal; a newer version; damaged (status
  // kCorrupt).
  static Result<Volume> open(const std::string& path);
  // Makes the folder and its files, durably. The folder must be empty, or not exist.
  static Result<Volume> create(Storage& storage, const std::string& path, const VolumeInfo& info);

 private:
  std::string path_;
  UniqueFd dir_;
  UniqueFd lock_;
  VolumeInfo info_;
};

// Identity of an open backing directory.
Result<VolumeIdentity> identify_volume(int backing_dir);

// Makes the state directory (0700, with its format file), or checks its version. Refuses a newer
// version and then changes nothing.
Result<void> prepare_state_dir(Storage& storage, const std::string& state_path);

// Finds the volume of a backing directory below state_path/volumes. nullopt: it has none yet.
Result<std::optional<Volume>> find_volume(const std::string& state_path,
                                          const VolumeIdentity& identity);

// The extended attribute of a mount's root that names its journal folder. The mount answers it
// itself; it is neither listed nor stored.
constexpr const char* kJournalXattr = "user.epochfs.journal";

// The journal folder of an epochfs mountpoint, or the path itself if it is a journal folder.
// Errors name the remedy.
Result<std::string> journal_path_of(const std::string& dir_or_journal);

// Files inside a volume folder.
constexpr const char* kVolumeFile = "volume";
constexpr const char* kLockFile = "lock";
constexpr const char* kSegmentsDir = "segments";
constexpr const char* kInFlightFile = "in-flight";
constexpr const char* kEpochsFile = "epochs";
constexpr const char* kCursorsDir = "cursors";
constexpr const char* kLabelsDir = "labels";  // made with the first label
constexpr const char* kPreimagesDir = "pre-images";
constexpr const char* kCheckpointsDir = "checkpoints";
constexpr const char* kControlSocket = "mount.sock";

}  // namespace epochfs::journal
