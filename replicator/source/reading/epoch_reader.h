// EpochReader: what did a file hold at the epoch that is being shipped? Opens backing files by
// handle, so renames do not matter. A pre-image takes precedence over what was written later.
// Without pre-images it reads the tree as it is now. That is enough for a walk that a later
// epoch completes.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "journal/base/unix.h"
#include "journal/preimages/attributes.h"
#include "journal/preimages/preimages.h"

namespace epochfs::replicator {

// A file of the source. It stays open until its last reader lets go of it.
struct SourceFile {
  FileId id;
  uint32_t mode = 0;
  uint64_t size = 0;  // at the epoch
  uint32_t links = 0;
  UniqueFd fd;  // for reading; regular files only. Invalid: only the pre-images have its bytes
  bool dense = false;  // it has no holes, so nothing needs to look for them
};
using SourceFilePtr = std::shared_ptr<SourceFile>;

class EpochReader {
 public:
  // Called when all files that sort before this one have been read, and this one up to the
  // offset.
  using OnPassed = std::function<void(const FileId&, uint64_t offset)>;

  // Borrows both. preimages may be null. One thread.
  EpochReader(int backing_dir, journal::PreImageReader* preimages, OnPassed on_passed = {})
      : backing_dir_(backing_dir), preimages_(preimages), on_passed_(std::move(on_passed)) {}

  // Opens a file and reads its attributes. If the file was removed after the epoch, they come
  // from its pre-images. Null: the file was removed before the epoch, or had no name at the
  // epoch. No target needs it then.
  Result<SourceFilePtr> open(const FileId& id, const FileHandle& handle,
                             rpc::Attributes::Builder attributes);

  journal::PreImageReader* preimages() const { return preimages_; }
  int backing_dir() const { return backing_dir_; }
  // The code that reads the bytes calls this. Files are opened and read in the order of their
  // identities.
  void passed(const FileId& id, uint64_t offset) {
    if (on_passed_) on_passed_(id, offset);
  }

  // Calls f(range, is_hole) for the parts of `range`, in ascending order. A hole of the backing
  // file counts as data where a pre-image covers it. Fails if the file was removed and its
  // pre-images do not cover all of the range.
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
