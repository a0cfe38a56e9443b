// StagedFiles: how do the bytes of files get into the stage and become durable there? Writes new
// files into incoming/, changed bytes into extents/, and small ranges into the index. Checks each
// call of blocks against what was announced. Does not decide which bytes are needed (stage.h).
//
// What has been received of an open file is noted in memory first. note_all() writes these notes
// to the index. One thread.
#pragma once

#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "journal/base/storage.h"
#include "replicator/target/directory/folders.h"
#include "replicator/target/directory/write_back.h"
#include "replicator/target/index/index.h"
#include "replicator/target/receive/messages.h"

namespace epochfs::replicator {

class StagedFiles {
 public:
  // Borrows all.
  StagedFiles(Storage& storage, Index& index, const Folders& folders);
  ~StagedFiles();

  // Removes files that the index does not know. Only when nothing is open.
  Result<void> sweep();
  // Removes all files of the stage. Only when nothing is open.
  Result<void> remove_all();

  // A transfer begins.
  void begin();
  // Writes the blocks of one call. Refuses all of them if one cannot be taken.
  Result<void> take(const std::vector<BlockMessage>& blocks);
  // Whether incoming/ has the file. Removes its bytes from cut_at on: they were written, but
  // the index does not know of them.
  Result<bool> has_incoming(FileId id, std::optional<uint64_t> cut_at);
  // Gives the file in incoming/ its size and attributes, and makes it if need be. Notes that
  // it is finished. From then on it only has to be named.
  Result<void> complete(FileId id, StagedNode node);
  // Completes every file that this transfer announced. Closes all first.
  Result<void> complete_all();
  // Removes the bytes of a file, from the index too.
  Result<void> drop(FileId id, const StagedNode& node);

  // Writes its notes to the index; they are not committed.
  Result<void> close(FileId id);
  Result<void> close_all();
  Result<void> note_all();
  // Forgets which files are open, and their notes: the index has been cleared.
  void reset();

  // Returns when all that was written is durable.
  Result<void> sync();

  // Bytes received so far, holes not counted.
  uint64_t bytes() const { return bytes_; }

 private:
  // A file that blocks are coming for.
  struct OpenFile {
    FileId id;
    StagedNode node;
    UniqueFd fd;           // in incoming/ or extents/, once something was written
    bool changed = false;  // node differs from the index
  };
  using OpenFiles = std::list<OpenFile>;

  Result<void> check_blocks(const std::vector<BlockMessage>& blocks);
  Result<void> take_block(OpenFile& file, BlockMessage block);
  Result<void> take_whole_block(OpenFile& file, const BlockMessage& block);
  Result<void> take_range_block(OpenFile& file, const BlockMessage& block);
  Result<void> write(OpenFile& file, const BlockMessage& block);

  Result<OpenFile*> open_file(FileId id);
  Result<void> open_for_writing(OpenFile& file);
  Result<void> make_incoming(OpenFile& file);
  Result<void> complete(OpenFile& file);
  Result<void> note(OpenFile& file);
  Result<void> close(OpenFiles::iterator file);

  Storage& storage_;
  Index& index_;
  const Folders& folders_;

  WriteBack write_back_;
  OpenFiles open_;  // the one used last in front
  std::unordered_map<FileId, OpenFiles::iterator> open_by_id_;
  bool files_changed_ = false;  // since the last sync
  uint64_t inline_bytes_ = 0;   // of this transfer
  uint64_t bytes_ = 0;
};

}  // namespace epochfs::replicator
