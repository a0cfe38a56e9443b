// Stage: what has the source sent for an epoch that is not complete yet? Decides which bytes of
// each announced file are needed, has them written (staged_files.h), and records in the index
// what has been received. A transfer that is interrupted resumes from there. The stage changes
// nothing in the target directory.
//
// The index never claims bytes that are not durable: checkpoint() makes the files durable before
// it commits the claims. One thread.
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

struct Need {
  uint32_t index = 0;      // of the node in the batch
  uint64_t resume_at = 0;  // rpc::NOTHING_NEEDED: nothing
};

struct StageCounters {
  uint64_t nodes = 0;
  uint64_t bytes = 0;  // of files, without holes
};

class Stage {
 public:
  // Says whether the target directory still has a file as the index describes it.
  using IsIntact = std::function<Result<bool>(FileId, const IndexedNode&)>;

  // Borrows all; they must outlive the stage.
  Stage(Storage& storage, Index& index, const Folders& folders, IsIntact is_intact);
  ~Stage();

  // Removes files that the index does not know, and empties limbo. Call it when no committed
  // epoch waits to be applied.
  Result<void> sweep();

  // Begins a transfer: keeps what is staged if this plan can use it, else discards it.
  Result<void> begin(const TransferPlan& plan);
  // The calls of a transfer (schema/replication.capnp). A call that is refused has changed
  // nothing.
  Result<std::vector<Need>> nodes(std::vector<NodeMessage> nodes);
  Result<void> blocks(const std::vector<BlockMessage>& blocks);
  Result<void> names(const std::vector<NameMessage>& names);
  Result<void> listed(const std::vector<FileId>& directories);
  Result<void> forget(const std::vector<FileId>& files);

  // Why this transfer can only end in unknownState: the source relies on something that the
  // target does not have. Empty: it does not.
  const std::string& unknown() const { return unknown_; }

  // Gives every announced file in incoming/ its size and attributes.
  Result<void> finish();
  // Returns when all staged files are durable. The index is not committed.
  Result<void> sync();
  // Returns when all that was received is durable, so that a later transfer can use it.
  Result<void> checkpoint();
  // Discards everything that is staged. Commits the index.
  Result<void> discard();
  // Forgets what is in memory: the index has been cleared or rolled back.
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
