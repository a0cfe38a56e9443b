// What do tests of checkpoints share? Random changes, which need not come from records, and the
// whole content of a checkpoint.
#pragma once

#include <map>

#include "journal/changes/checkpoint.h"
#include "tests/support/random.h"

namespace epochfs::testing {

inline journal::FileChange random_change(Random& random) {
  journal::FileChange c;
  c.fresh = random.one_in(3);
  c.whole = random.one_in(5);
  c.touched = random.one_in(2);
  c.subtree = random.one_in(8);
  c.links = int64_t(random.below(7)) - 3;
  c.last_data = Lsn{random.u64()};
  FileHandle handle;
  handle.type = int32_t(random.below(1000)) - 500;
  handle.size = uint8_t(random.below(FileHandle::kMaxBytes + 1));
  for (size_t i = 0; i < handle.size; ++i) handle.bytes[i] = uint8_t(random.u64());
  c.handle = handle;
  for (uint64_t n = random.below(5); n > 0; --n) {
    const uint64_t begin = random.u64() >> 1;
    c.data.add({begin, begin + 1 + random.below(1 << 20)});
  }
  if (random.one_in(4)) c.data.add({random.u64() >> 1, ByteRange::kEndOfFile});
  return c;
}

struct CheckpointContent {
  std::map<FileId, journal::FileChange> files;
  std::map<journal::NameKey, journal::NameChange> names;

  void add(const FileId& id, const journal::FileChange& change) { files[id] = change; }
  void add(const journal::NameKey& key, const journal::NameChange& change) { names[key] = change; }
  bool operator==(const CheckpointContent&) const = default;
};

inline CheckpointContent content_of(const journal::Checkpoint& c) {
  CheckpointContent out;
  journal::for_each_change(c, [&](const auto& key, const auto& change) { out.add(key, change); });
  return out;
}

}  // namespace epochfs::testing
