#include "tests/support/records.h"

#include <xxhash.h>

#include <cstring>

namespace epochfs::testing {

OperandsOf operands_of(journal::RecordType type) {
  switch (type) {
    case journal::RecordType::kPadding:
    case journal::RecordType::kSeal: return {};
    case journal::RecordType::kCreate:
    case journal::RecordType::kMakeDirectory:
    case journal::RecordType::kMakeNode: return {.handle = true, .parent = true, .mode = true};
    case journal::RecordType::kSymlink:
    case journal::RecordType::kLink:
    case journal::RecordType::kUncertainName: return {.handle = true, .parent = true};
    case journal::RecordType::kUnlink:
    case journal::RecordType::kRemoveDirectory: return {.parent = true};
    case journal::RecordType::kRename:
      return {.handle = true, .parent = true, .parent2 = true, .other = true, .mode = true};
    case journal::RecordType::kWrite:
    case journal::RecordType::kTruncate: return {.handle = true, .range = true};
    case journal::RecordType::kAllocate: return {.handle = true, .range = true, .mode = true};
    case journal::RecordType::kSetAttributes:
    case journal::RecordType::kTemporary: return {.handle = true, .mode = true};
    case journal::RecordType::kSetXattr:
    case journal::RecordType::kRemoveXattr: return {.handle = true, .xattr_name = true};
    case journal::RecordType::kGap: return {.mode = true};
  }
  return {};
}

void fill_random(journal::RecordType type, Random& random, OwnedRecord& out) {
  auto size = [&](size_t max) { return random.one_in(4) ? max : random.below(max + 1); };
  journal::Record& r = out.record = journal::Record{};
  r.type = type;
  r.time_ns = random.u64();
  r.epoch = EpochId{random.u64()};
  r.caller = {uint32_t(random.u64()), uint32_t(random.u64()), uint32_t(random.u64())};
  r.file = random.id();
  const OperandsOf has = operands_of(type);
  out.name = random.name(size(kMaxNameBytes));
  out.name2 = random.name(size(kMaxNameBytes));
  if (has.handle) r.handle = random.handle(size(FileHandle::kMaxBytes));
  if (has.parent) {
    r.parent = random.id();
    r.parent_handle = random.handle(size(FileHandle::kMaxBytes));
    r.name = out.name;
  }
  if (has.parent2) {
    r.parent2 = random.id();
    r.parent2_handle = random.handle(size(FileHandle::kMaxBytes));
    r.name2 = out.name2;
  }
  if (has.other) r.other = random.id();
  if (has.range) r.range = {random.u64(), random.u64()};
  if (has.mode) r.mode = uint32_t(random.u64());
  if (has.xattr_name) r.name = out.name;
}

std::vector<std::byte> encoded(const journal::Record& r) {
  std::vector<std::byte> out(journal::encoded_size(r));
  encode(r, out);
  return out;
}

void reseal(std::span<std::byte> record) {
  uint64_t head;
  std::memcpy(&head, record.data(), sizeof head);
  uint64_t sum = XXH3_64bits_withSeed(record.data() + 16, record.size() - 16, head);
  std::memcpy(record.data() + 8, &sum, sizeof sum);
}

}  // namespace epochfs::testing
