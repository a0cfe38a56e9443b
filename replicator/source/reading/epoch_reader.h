// EpochReader: what did a file hold at the epoch that is being shipped? Opens the
// backing files by handle, wherever they have been moved to, and lets pre-images
// win over what has been written since. Without pre-images it reads the tree as
// it is now: good enough for a walk that later epochs complete.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "journal/base/unix.h"
#include "journal/preimages/attributes.h"
#include "journal/preimages/preimages.h"

namespace epochfs::replicator {

// A file of the source, open as long as somebody still reads from it.
struct SourceFile {
  FileId id;
  uint32_t mode = 0;
  uint64_t size = 0;  // at the epoch
  uint32_t links = 0;
  UniqueFd fd;         // for reading; regular files only. None: its pre-images are all of it
  bool dense = false;  // has no holes, so that nobody needs to look for them
};
using SourceFilePtr = std::shared_ptr<SourceFile>;

class EpochReader {
 public:
  // Whoever wants to know that all files before this one, in their order, and this one up to
  // the offset, have been read.
  using OnPassed = std::function<void(const FileId&, uint64_t offset)>;

  // Borrows both. preimages may be null. One thread.
  EpochReader(int backing_dir, journal::PreImageReader* preimages, OnPassed on_passed = {})
      : backing_dir_(backing_dir), preimages_(preimages), on_passed_(std::move(on_passed)) {}

  // Opens a file and reads its attributes. One that has gone since the epoch is what its
  // pre-images say. Null: it was gone before, or has no name at the epoch, and no target
  // needs it.
  Result<SourceFilePtr> open(const FileId& id, const FileHandle& handle,
                             rpc::Attributes::Builder attributes);

  journal::PreImageReader* preimages() const { return preimages_; }
  int backing_dir() const { return backing_dir_; }
  // Said by whoever reads the bytes. Files are opened and read in their order.
  void passed(const FileId& id, uint64_t offset) {
    if (on_passed_) on_passed_(id, offset);
  }

  // Calls f(range, is_hole) for the parts of `range`, ascending. Holes of the
  // backing file in which a pre-image stands count as data. An error: the file has gone,
  // and not all of the range was saved.
  Result<void> map(const SourceFile& file, ByteRange range,
                   const std::function<void(ByteRange, bool)>& f);

 private:
  Result<void> map_saved(const SourceFile& file, ByteRange range,
                         const std::function<void(ByteRange, bool)>& f);

  int backing_dir_;
  journal::PreImageReader* preimages_;
  OnPassed on_passed_;
};

}  // namespace epochfs::replicator
