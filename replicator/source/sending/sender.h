// Sender: how do files and names become the calls of one transfer? Gathers nodes and names into
// batches. Queues the bytes of a file as soon as the target has said which of them it needs.
// Does not know why a file is sent. One thread.
#pragma once

#include <capnp/message.h>

#include <deque>
#include <functional>
#include <vector>

#include "journal/changes/change_set.h"
#include "replicator/source/sending/block_pump.h"

namespace epochfs::replicator {

// What has been sent so far. Reported after every batch of nodes and every message of blocks.
struct SenderCounters {
  uint64_t files = 0;  // nodes announced
  uint64_t bytes_read = 0;
  uint64_t bytes_sent = 0;
  uint64_t work_done = 0;        // see work_of
  uint64_t work_unforeseen = 0;  // of these files, beyond what foreseen_work_of() said
  uint64_t compared = 0;         // regular files that were announced as a whole
  uint64_t differed = 0;         // those of them that the target did not have already
};

class Sender {
 public:
  // Borrows reader and loop. Calls on_progress with the counters.
  static Result<std::unique_ptr<Sender>> make(
      EpochReader& reader, rpc::Transfer::Client transfer, Interruptible& loop,
      std::function<void(const SenderCounters&)> on_progress);

  // Announces a file and sends its bytes: all of them if `change` is fresh or whole, else its
  // data ranges. `version` names the bytes (rpc::Node.version). Returns false if the file is gone
  // and was not sent.
  Result<bool> file(const FileId& id, const journal::FileChange& change, uint64_t version = 0);

  // Sends what a name means now; child {0, 0}: the name is gone.
  void name(const FileId& parent, std::string_view name, const FileId& child);
  // All names of the directory have been given to name().
  void listed(const FileId& directory);

  // Sends all that is gathered. Returns when every call has been answered.
  Result<void> finish();

  // How much work a file is in a transfer, in bytes: its data, and a constant cost of every
  // file.
  static uint64_t work_of(uint64_t bytes) { return bytes + 4096; }
  // The part of that work which is known before the file is opened. The size of a new file is
  // not known.
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
  SenderCounters sent_;  // except what the pump counts
};

}  // namespace epochfs::replicator
