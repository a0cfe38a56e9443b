// PreImages: what did a file hold at the seal, where a later mutation has
// overwritten it? One log a pin, in the volume's pre-images/ folder, written by
// the mount and read by the daemon while the pin lasts. It lives no longer than
// the mount process and needs no durability: a lost pin merges forward.
//
// The order of two steps makes reading exact without a lock. Writer: publish the
// pre-image, then overwrite. Reader: read the backing file, then look for
// pre-images published meanwhile; they win.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "journal/base/format.h"
#include "journal/base/unix.h"
#include "journal/changes/byte_ranges.h"

namespace epochfs::journal {

// Threads: all methods from any thread; appends are serialized inside.
class PreImageWriter {
 public:
  // Makes an unlinked-on-destruction log file in dir.
  static Result<std::unique_ptr<PreImageWriter>> create(int dir, const std::string& name);
  ~PreImageWriter();  // gives it up, for whoever still reads

  // attributes: a flat Cap'n Proto Attributes message (schema/replication.capnp).
  void publish_attributes(const FileId& file, std::string_view attributes);
  void publish_data(const FileId& file, uint64_t offset, std::string_view bytes);
  // Shares the blocks of the file with the log, however long the range is. It begins and ends
  // on kCloneAlignment. False: nothing was published; where the file system cannot, or lies
  // elsewhere, can_clone() is false from then on.
  bool publish_clone(const FileId& file, int fd, ByteRange range);
  bool can_clone() const { return can_clone_.load(std::memory_order_relaxed); }
  // The range held zeros without storage, or lay beyond the end.
  void publish_hole(const FileId& file, ByteRange range);
  // From now on the log is incomplete: the reader gives the epoch up. Its room is free.
  void give_up();
  bool given_up() const;

  uint64_t bytes() const;
  int fd() const { return fd_.get(); }  // readable by a PreImageReader

 private:
  PreImageWriter() = default;
  void append(uint32_t kind, const FileId& file, uint64_t offset, uint64_t length,
              std::string_view payload);
  struct Header;
  void give_up_locked();

  mutable std::mutex mutex_;
  UniqueFd fd_;
  Header* header_ = nullptr;
  uint64_t end_ = 0;
  std::atomic<bool> can_clone_{true};
};

// Reads a log that is still being written. One thread.
class PreImageReader {
 public:
  // Takes ownership of fd.
  static Result<std::unique_ptr<PreImageReader>> open(UniqueFd fd);
  ~PreImageReader();

  // Takes in what was published since the last call. One atomic load when there
  // is nothing new. An error, or given_up: the epoch cannot be shipped exactly.
  Result<void> refresh();
  bool given_up() const;

  // Attributes at the seal, if they have been overwritten since. Null: not.
  const std::string* attributes(const FileId& file) const;
  // Puts what [offset, offset + size) held at the seal over data, where it has
  // been overwritten since.
  Result<void> overlay(const FileId& file, uint64_t offset, char* data, size_t size);
  // Ranges of the file that have a pre-image.
  const ByteRanges* saved(const FileId& file) const;
  // The part of them that held zeros without storage.
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
    std::map<uint64_t, Extent> extents;  // by beginning; disjoint
    ByteRanges saved, holes;
  };

  UniqueFd fd_;
  Header* header_ = nullptr;
  uint64_t consumed_ = 0;
  std::unordered_map<FileId, File> files_;
};

}  // namespace epochfs::journal
