// PreImages: what did a file hold at the seal, where a later mutation has overwritten it? Each pin
// has one log. The mount writes it, and the daemon reads it while the pin lasts. The log lives no
// longer than the mount's process. It needs no durability: a lost pin merges forward.
//
// The order of two steps makes reading exact without a lock. The writer publishes the pre-image,
// then overwrites. The reader reads the backing file, then looks for pre-images published
// meanwhile; they win.
//
// It does not know what has to be saved, or when (fs/recording/pins.h).
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "journal/base/format.h"
#include "journal/base/mutex.h"
#include "journal/base/unix.h"
#include "journal/changes/byte_ranges.h"

namespace epochfs::journal {

// Any thread may call any method. Publishing reports no error: a log that cannot be written is
// given up.
class PreImageWriter {
 public:
  // Makes a log file in `dir` and unlinks it at once.
  static Result<std::unique_ptr<PreImageWriter>> create(int dir, const std::string& name);
  ~PreImageWriter();  // gives the log up: a reader that is left can rely on nothing

  // attributes: a flat Cap'n Proto Attributes message (schema/replication.capnp).
  void publish_attributes(const FileId& file, std::string_view attributes);
  void publish_data(const FileId& file, uint64_t offset, std::string_view bytes);
  // Shares the file's blocks with the log, for a range of any length that begins and ends at
  // multiples of kCloneAlignment (checked: aborts). False: nothing was published. If the file
  // system cannot share blocks, or the log lies on another one, can_clone() is false from then on.
  bool publish_clone(const FileId& file, int fd, ByteRange range);
  bool can_clone() const { return can_clone_.load(std::memory_order_relaxed); }
  // The range held zeros without storage, or lay beyond the end of the file.
  void publish_hole(const FileId& file, ByteRange range);
  // The log is incomplete from now on, so the reader gives the epoch up. Frees its room.
  void give_up();
  bool given_up() const;

  uint64_t bytes() const;
  int fd() const { return fd_.get(); }  // for a PreImageReader; stays the writer's

 private:
  PreImageWriter() = default;
  void append(uint32_t kind, const FileId& file, uint64_t offset, uint64_t length,
              std::string_view payload);
  struct Header;
  void give_up_locked() EPOCHFS_REQUIRES(mutex_);

  mutable Mutex mutex_;
  UniqueFd fd_;
  Header* header_ = nullptr;
  uint64_t end_ EPOCHFS_GUARDED_BY(mutex_) = 0;  // of the last whole entry
  std::atomic<bool> can_clone_{true};
};

// Reads a log that is still being written. One thread.
class PreImageReader {
 public:
  // Takes ownership of fd.
  static Result<std::unique_ptr<PreImageReader>> open(UniqueFd fd);
  ~PreImageReader();

  // Takes in what was published since the last call. Costs one atomic load if nothing was. After an
  // error, or if given_up(), the epoch cannot be shipped exactly.
  Result<void> refresh();
  bool given_up() const;

  // The attributes at the seal. Null: they have not been overwritten since.
  const std::string* attributes(const FileId& file) const;
  // data holds the bytes [offset, offset + size) of the backing file. Replaces those that have been
  // overwritten since the seal by what they were then.
  Result<void> overlay(const FileId& file, uint64_t offset, char* data, size_t size);
  // Ranges of the file that have a pre-image.
  const ByteRanges* saved(const FileId& file) const;
  // The part of saved() that held zeros without storage.
  const ByteRanges* holes(const FileId& file) const;

 private:
  PreImageReader() = default;
  tl::unexpected<Error> cut_short() const;
  struct Header;
  struct Extent {
    uint64_t end;
    uint64_t position;  // of the payload in the log; 0: zeros
  };
  struct File {
    std::optional<std::string> attributes;
    std::map<uint64_t, Extent> extents;  // by where they begin; disjoint
    ByteRanges saved, holes;
  };

  UniqueFd fd_;
  Header* header_ = nullptr;
  uint64_t consumed_ = 0;
  std::unordered_map<FileId, File> files_;
};

}  // namespace epochfs::journal
