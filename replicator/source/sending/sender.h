// Sender: how do files and names become the calls of one transfer? Gathers nodes
// and names into batches, and queues the bytes of each file as soon as the target
// has said what it needs. Knows nothing of where they come from. One thread.
#pragma once

#include <capnp/message.h>

#include <deque>
#include <functional>
#include <vector>

#include "journal/changes/change_set.h"
#include "replicator/source/sending/block_pump.h"

namespace epochfs::replicator {

// What has been sent so far; told after every batch of nodes and message of blocks.
struct SenderCounters {
  uint64_t files = 0;  // nodes announced
  uint64_t bytes_read = 0;
  uint64_t bytes_sent = 0;
  uint64_t work_done = 0;        // see work_of
  uint64_t work_unforeseen = 0;  // of the files so far, beyond what their changes said
  uint64_t compared = 0;         // regular files that were announced as a whole,
  uint64_t differed = 0;         // and those that the target did not hold already
};

class Sender {
 public:
  // Borrows all. on_progress gets the counters.
  static Result<std::unique_ptr<Sender>> make(
      EpochReader& reader, rpc::Transfer::Client transfer, Interruptible& loop,
      std::function<void(const SenderCounters&)> on_progress);

  // Announces a file. `change` says which bytes go along: all of it where it is
  // fresh or whole, its data ranges otherwise. Returns false when the file is
  // gone and was not sent.
  Result<bool> file(const FileId& id, const journal::FileChange& change);

  void name(const FileId& parent, std::string_view name, const FileId& child);
  void listed(const FileId& directory);

  // Sends all that is gathered and returns when every call has been answered.
  Result<void> finish();

  // Share of a file in the work of a transfer, in bytes: its data, and a constant
  // for what every file costs.
  static uint64_t work_of(uint64_t bytes) { return bytes + 4096; }
  // What is known of it before the file is opened: nothing of how large a new one is.
  static uint64_t foreseen_work_of(const journal::FileChange& change);

 private:
  static constexpr size_t kNodesInBatch = 128;
  static constexpr size_t kBatchesInFlight = 4;
  static constexpr size_t kNamesInBatch = 2048;

  struct Pending {
    SourceFilePtr file;
    std::unique_ptr<capnp::MallocMessageBuilder> attributes;
    bool fresh = false;
    bool whole = false;
    uint64_t version = 0;
    journal::ByteRanges ranges;  // clipped to the size
  };
  struct Batch {
    std::vector<Pending> nodes;
    kj::Maybe<kj::Promise<capnp::Response<rpc::Transfer::NodesResults>>> reply;
  };

  Sender(EpochReader& reader, rpc::Transfer::Client transfer, Interruptible& loop,
         std::function<void(const SenderCounters&)> on_progress);
  void send_nodes();
  Result<void> settle_oldest();
  Result<void> queue_data(const SourceFilePtr& file, const journal::ByteRanges& ranges);
  void send_names();
  void send_listed();
  void count(uint64_t message_words);
  SenderCounters counters() const;

  EpochReader& reader_;
  rpc::Transfer::Client transfer_;
  Interruptible& loop_;
  std::function<void(const SenderCounters&)> on_progress_;
  Window window_;
  std::unique_ptr<BlockPump> pump_;
  Batch filling_;
  size_t filling_bytes_ = 0;
  std::deque<Batch> in_flight_;
  std::vector<std::tuple<FileId, std::string, FileId>> names_;
  std::vector<FileId> listed_;
  SenderCounters sent_;  // but for what the pump counts
};

}  // namespace epochfs::replicator
