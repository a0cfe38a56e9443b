// Stage: what has the source sent for an epoch that is not complete yet? Writes
// new files into incoming/ and changed bytes into extents/ (small ones into the
// index), and keeps account in the index of what has come, so that a transfer
// that breaks off goes on where it stopped. It changes nothing in the target
// directory.
//
// What the index claims to be here is durable: checkpoint() makes the files
// durable before it commits the claims. One thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "journal/base/storage.h"
#include "replicator/target/directory/folders.h"
#include "replicator/target/index/index.h"
#include "replicator/target/receive/messages.h"
#include "replicator/target/receive/staged_files.h"

namespace epochfs::replicator {

constexpr uint64_t kNothingNeeded = UINT64_MAX;

struct Need {
  uint32_t index = 0;      // in the batch
  uint64_t resume_at = 0;  // kNothingNeeded: nothing
};

struct StageCounters {
  uint64_t nodes = 0;
  uint64_t bytes = 0;  // of files; holes do not count
};

class Stage {
 public:
  // Tells whether the target directory still has a file as the index notes it.
  using IsIntact = std::function<Result<bool>(FileId, const IndexedNode&)>;

  // Borrows all, which must outlive the stage.
  Stage(Storage& storage, Index& index, const Folders& folders, IsIntact is_intact);
  ~Stage();

  // Removes files that the index knows nothing of. For the time after opening,
  // when nothing is committed.
  Result<void> sweep();

  // Begins a transfer: keeps what is staged if it can be of use, else throws it
  // away. full and walk_since as of the plan.
  Result<void> begin(const TransferPlan& plan);
  // The calls of a transfer. A call that is refused has changed nothing.
  Result<std::vector<Need>> nodes(std::vector<NodeMessage> nodes);
  Result<void> blocks(const std::vector<BlockMessage>& blocks);
  Result<void> names(const std::vector<NameMessage>& names);
  Result<void> listed(const std::vector<FileId>& directories);
  Result<void> forget(const std::vector<FileId>& files);

  // Why this transfer can only end in unknownState: the source counts on
  // something that is not here. Empty: it is not so.
  const std::string& unknown() const { return unknown_; }

  // Completes every announced file in incoming/: size and attributes.
  Result<void> finish();
  // Returns when all staged files are durable. The index is not committed.
  Result<void> sync();
  // Returns when all that has come is durable, and will be offered again.
  Result<void> checkpoint();
  // Throws the stage away. The index is not committed.
  Result<void> discard();
  // Forgets what it has in memory; the index has been cleared.
  void reset();

  StageCounters counters() const { return {nodes_, files_.bytes()}; }

 private:
  Result<void> announce(NodeMessage message, uint32_t position, std::vector<Need>& needs);
  Result<void> take_content(const NodeMessage& message, const std::optional<StagedNode>& old,
                            StagedNode& node);
  Result<void> take_none(const NodeMessage& message, const std::optional<StagedNode>& old,
                         StagedNode& node);
  Result<void> take_whole(const NodeMessage& message, const std::optional<StagedNode>& old,
                          StagedNode& node);
  Result<void> take_ranges(const NodeMessage& message, const std::optional<StagedNode>& old,
                           StagedNode& node);
  Result<void> resume(FileId id, const StagedNode& old, StagedNode& node);
  Result<bool> has_intact(const NodeMessage& message);
  Result<std::optional<IndexedNode>> usable(const NodeMessage& message);
  Result<void> checkpoint_if_due();

  Index& index_;
  const Folders& folders_;
  IsIntact is_intact_;

  StagedFiles files_;
  uint64_t last_checkpoint_ns_ = 0;
  std::string unknown_;
  uint64_t nodes_ = 0;
};

}  // namespace epochfs::replicator
