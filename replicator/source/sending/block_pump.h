// BlockPump: how do the bytes of many files reach the wire as fast as disk and network allow?
// Reads through io_uring with many extents in flight. Meanwhile it compresses and sends what it
// read before. Keeps the order in which ranges were added.
//
// It overlays pre-images after each read. That order makes the copy exact
// (journal/preimages/preimages.h). One thread.
#pragma once

#include <liburing.h>

#include <functional>
#include <memory>
#include <vector>

#include "replicator/source/reading/epoch_reader.h"
#include "replicator/source/sending/window.h"
#include "schema/replication.capnp.h"

namespace epochfs::replicator {

struct PumpCounters {
  uint64_t bytes_read = 0;  // from files
  uint64_t bytes_sent = 0;  // in messages
};

class BlockPump {
 public:
  static constexpr unsigned kRingEntries = 256;
  static constexpr size_t kChunkBytes = 512 << 10;     // in one read
  static constexpr size_t kGenerationBytes = 4 << 20;  // read at once; twice that in memory
  static constexpr size_t kMessageBytes = 1 << 20;     // in one call, roughly

  // Borrows reader, window and loop. Calls on_sent after each message, with the number of file
  // bytes that it covers, holes included. The call may still be unanswered.
  static Result<std::unique_ptr<BlockPump>> make(EpochReader& reader,
                                                 rpc::Transfer::Client transfer, Window& window,
                                                 Interruptible& loop,
                                                 std::function<void(uint64_t)> on_sent);
  ~BlockPump();

  // Queues a range of the file; finds its holes and sends them as holes. Sends earlier ranges
  // meanwhile, and waits while the window is full.
  Result<void> add(const SourceFilePtr& file, ByteRange range);
  // Sends all that is queued. The calls may still be unanswered.
  Result<void> flush();

  const PumpCounters& counters() const { return counters_; }

 private:
  struct Chunk {
    SourceFilePtr file;
    ByteRange range;
    bool hole = false;
    size_t at = 0;       // where its bytes are in the generation's buffer
    int32_t result = 0;  // of the read
  };
  struct Generation {
    std::vector<Chunk> chunks;
    std::unique_ptr<char[]> buffer;
    size_t used = 0;
    unsigned reads = 0;
  };

  BlockPump(EpochReader& reader, rpc::Transfer::Client transfer, Window& window,
            Interruptible& loop, std::function<void(uint64_t)> on_sent);
  Result<void> add_chunk(const SourceFilePtr& file, ByteRange range, bool hole);
  Result<void> turn();
  void submit(Generation& generation);
  Result<void> collect(Generation& generation);
  Result<void> finish_read(Generation& generation, Chunk& chunk);
  Result<void> send(Generation& generation);
  void send_message(Generation& generation, size_t first, size_t count);
  // Returns the size of the compressed bytes in compressed_, or 0 if raw bytes are as good.
  size_t compress(const Chunk& chunk, const char* bytes);

  EpochReader& reader_;
  rpc::Transfer::Client transfer_;
  Window& window_;
  Interruptible& loop_;
  std::function<void(uint64_t)> on_sent_;
  PumpCounters counters_;
  io_uring ring_{};
  bool ring_ready_ = false;
  Generation filling_, reading_;
  std::unique_ptr<char[]> compressed_;
  // After a chunk that did not shrink, the next chunks of the same file are sent raw, twice as
  // many each time.
  FileId incompressible_;
  unsigned skip_ = 0, skipped_ = 0;
};

}  // namespace epochfs::replicator
