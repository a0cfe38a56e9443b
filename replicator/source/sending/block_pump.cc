#include "replicator/source/sending/block_pump.h"

#include <fmt/format.h>
#include <lz4.h>

#include <algorithm>
#include <cstring>

namespace epochfs::replicator {
namespace {

constexpr size_t kMinCompressible = 256;
constexpr unsigned kMaxSkip = 64;

capnp::Data::Reader data_of(const char* bytes, size_t size) {
  return {reinterpret_cast<const capnp::byte*>(bytes), size};
}

std::string named(const SourceFile& file) { return fmt::format("inode {}", file.id.inode); }

}  // namespace

BlockPump::BlockPump(EpochReader& reader, rpc::Transfer::Client transfer, Window& window,
                     Interruptible& loop, std::function<void(uint64_t)> on_sent)
    : reader_(reader),
      transfer_(kj::mv(transfer)),
      window_(window),
      loop_(loop),
      on_sent_(std::move(on_sent)) {
  filling_.buffer.reset(new char[kGenerationBytes]);
  reading_.buffer.reset(new char[kGenerationBytes]);
  compressed_.reset(new char[kChunkBytes]);
}

Result<std::unique_ptr<BlockPump>> BlockPump::make(EpochReader& reader,
                                                   rpc::Transfer::Client transfer, Window& window,
                                                   Interruptible& loop,
                                                   std::function<void(uint64_t)> on_sent) {
  std::unique_ptr<BlockPump> self(
      new BlockPump(reader, kj::mv(transfer), window, loop, std::move(on_sent)));
  if (int code = io_uring_queue_init(kRingEntries, &self->ring_, 0); code < 0) {
    return fail("set up io_uring; allow it with: sysctl kernel.io_uring_disabled=0", -code);
  }
  self->ring_ready_ = true;
  return self;
}

BlockPump::~BlockPump() {
  if (!ring_ready_) return;
  // The kernel may still be writing into the buffers.
  for (; reading_.reads > 0; --reading_.reads) {
    io_uring_cqe* cqe;
    if (io_uring_wait_cqe(&ring_, &cqe) != 0) break;
    io_uring_cqe_seen(&ring_, cqe);
  }
  io_uring_queue_exit(&ring_);
}

Result<void> BlockPump::add(const SourceFilePtr& file, ByteRange range) {
  Result<void> outcome;
  EPOCHFS_DO(reader_.map(*file, range, [&](ByteRange part, bool hole) {
    if (!outcome) return;
    if (hole) {
      outcome = add_chunk(file, part, true);
      return;
    }
    for (uint64_t at = part.begin; at < part.end && outcome; at += kChunkBytes) {
      outcome = add_chunk(file, {at, std::min<uint64_t>(part.end, at + kChunkBytes)}, false);
    }
  }));
  return outcome;
}

Result<void> BlockPump::add_chunk(const SourceFilePtr& file, ByteRange range, bool hole) {
  const size_t bytes = hole ? 0 : range.length();
  if (filling_.used + bytes > kGenerationBytes || filling_.chunks.size() == kRingEntries) {
    EPOCHFS_DO(turn());
  }
  filling_.chunks.push_back({file, range, hole, filling_.used, 0});
  filling_.used += bytes;
  return {};
}

// Starts to read what has been queued, and meanwhile sends what was read before.
Result<void> BlockPump::turn() {
  EPOCHFS_DO(collect(reading_));
  submit(filling_);
  std::swap(filling_, reading_);  // filling_ is now what has just been read
  EPOCHFS_DO(send(filling_));
  filling_.chunks.clear();
  filling_.used = 0;
  return {};
}

Result<void> BlockPump::flush() {
  EPOCHFS_DO(turn());
  return turn();
}

void BlockPump::submit(Generation& generation) {
  for (size_t i = 0; i < generation.chunks.size(); ++i) {
    Chunk& chunk = generation.chunks[i];
    if (chunk.hole || !chunk.file->fd) continue;
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    EPOCHFS_CHECK(sqe != nullptr);  // a generation has no more chunks than the ring entries
    io_uring_prep_read(sqe, chunk.file->fd.get(), generation.buffer.get() + chunk.at,
                       unsigned(chunk.range.length()), chunk.range.begin);
    io_uring_sqe_set_data64(sqe, i);
    ++generation.reads;
  }
  if (generation.reads > 0) io_uring_submit(&ring_);
}

Result<void> BlockPump::collect(Generation& generation) {
  for (; generation.reads > 0; --generation.reads) {
    io_uring_cqe* cqe;
    int code;
    while ((code = io_uring_wait_cqe(&ring_, &cqe)) == -EINTR) {
    }
    if (code < 0) return fail("wait for io_uring", -code);
    generation.chunks[io_uring_cqe_get_data64(cqe)].result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
  }
  for (Chunk& chunk : generation.chunks) {
    if (!chunk.hole) EPOCHFS_DO(finish_read(generation, chunk));
  }
  // After the last read: the bytes of a pre-image that is not seen here were still in place
  // when they were read.
  if (journal::PreImageReader* preimages = reader_.preimages()) {
    EPOCHFS_DO(preimages->refresh());
    if (preimages->given_up()) {
      return fail("read epoch: its pre-images were given up; it is merged forward");
    }
    for (Chunk& chunk : generation.chunks) {
      if (chunk.hole) continue;
      EPOCHFS_DO(preimages->overlay(chunk.file->id, chunk.range.begin,
                                    generation.buffer.get() + chunk.at, chunk.range.length()));
      auto holes = preimages->holes(chunk.file->id);
      chunk.hole = holes && holes->within(chunk.range).bytes() == chunk.range.length();
    }
  }
  if (!generation.chunks.empty()) {
    const Chunk& last = generation.chunks.back();
    reader_.passed(last.file->id, last.range.end);
  }
  return {};
}

// Completes a short read. Fills up with zeros beyond the end of the file: the file was truncated
// after the epoch, and its pre-image holds what was there. The pre-images of a removed file hold
// all of it.
Result<void> BlockPump::finish_read(Generation& generation, Chunk& chunk) {
  char* bytes = generation.buffer.get() + chunk.at;
  const size_t wanted = chunk.range.length();
  if (chunk.result < 0 && chunk.result != -EINTR && chunk.result != -EAGAIN) {
    return fail("read " + named(*chunk.file), -chunk.result);
  }
  size_t got = chunk.result > 0 ? size_t(chunk.result) : 0;
  counters_.bytes_read += wanted;
  if (got == wanted || !chunk.file->fd) return {};
  EPOCHFS_TRY(size_t more, pread_full(chunk.file->fd.get(), bytes + got, wanted - got,
                                      chunk.range.begin + got, named(*chunk.file)));
  got += more;
  std::memset(bytes + got, 0, wanted - got);
  return {};
}

Result<void> BlockPump::send(Generation& generation) {
  for (size_t first = 0; first < generation.chunks.size();) {
    size_t count = 0, bytes = 0;
    while (first + count < generation.chunks.size() && bytes < kMessageBytes) {
      const Chunk& chunk = generation.chunks[first + count];
      size_t size = chunk.hole ? 0 : chunk.range.length();
      if (count > 0 && bytes + size > kMessageBytes) break;
      bytes += size + 64;
      ++count;
    }
    send_message(generation, first, count);
    first += count;
    loop_.check();
  }
  return {};
}

void BlockPump::send_message(Generation& generation, size_t first, size_t count) {
  auto request = transfer_.blocksRequest(capnp::MessageSize{kMessageBytes / 8 + 1024, 0});
  auto blocks = request.initBlocks(unsigned(count));
  uint64_t covered = 0;
  for (size_t i = 0; i < count; ++i) {
    const Chunk& chunk = generation.chunks[first + i];
    auto block = blocks[unsigned(i)];
    journal::set_file_id(block.initId(), chunk.file->id.inode, chunk.file->id.birth_ns);
    block.setOffset(chunk.range.begin);
    block.setLength(chunk.range.length());
    covered += chunk.range.length();
    if (chunk.hole) {
      block.getPayload().setHole();
      continue;
    }
    const char* bytes = generation.buffer.get() + chunk.at;
    if (size_t size = compress(chunk, bytes)) {
      block.getPayload().setLz4(data_of(compressed_.get(), size));
    } else {
      block.getPayload().setRaw(data_of(bytes, chunk.range.length()));
    }
  }
  const uint64_t size = request.totalSize().wordCount * sizeof(capnp::word);
  counters_.bytes_sent += size;
  window_.add(request.send().ignoreResult(), size);
  on_sent_(covered);
}

size_t BlockPump::compress(const Chunk& chunk, const char* bytes) {
  const size_t size = chunk.range.length();
  if (size < kMinCompressible) return 0;
  const bool known = chunk.file->id == incompressible_;
  if (known && skipped_ < skip_) {
    ++skipped_;
    return 0;
  }
  // Saving less than an eighth is not worth the target's time.
  int out = LZ4_compress_default(bytes, compressed_.get(), int(size), int(size - size / 8));
  if (out > 0) {
    if (known) incompressible_ = {};
    return size_t(out);
  }
  skip_ = known ? std::min(skip_ * 2, kMaxSkip) : 1;
  skipped_ = 0;
  incompressible_ = chunk.file->id;
  return 0;
}

}  // namespace epochfs::replicator
