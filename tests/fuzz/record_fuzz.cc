// Fuzz target: the record codec over any bytes. Whatever decodes encodes to a record
// that decodes to the same.

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "tests/fuzz/target.h"
#include "tests/support/random.h"
#include "tests/support/records.h"

namespace epochfs {
namespace {

void check_round_trip(const journal::Record& record) {
  if (record.type == journal::RecordType::kPadding) return;  // of any length
  std::vector<std::byte> again(journal::encoded_size(record));
  encode(record, again);
  journal::Decoded d = journal::decode(again, record.lsn);
  EPOCHFS_CHECK(d.error == journal::DecodeError::kNone && d.record == record);
}

// As the bytes are: mostly refused for their checksum.
void decode_as_it_is(std::span<const std::byte> in) {
  uint64_t lsn = 0;
  if (in.size() >= 24) std::memcpy(&lsn, in.data() + 16, sizeof lsn);
  journal::Decoded d = journal::decode(in, Lsn{lsn});
  journal::RecordHead head;
  const journal::DecodeError error = journal::decode_head(in, Lsn{lsn}, head);
  EPOCHFS_CHECK(error == d.error || d.error == journal::DecodeError::kBadOperands);
  if (d.error != journal::DecodeError::kNone) return;
  EPOCHFS_CHECK(d.size <= in.size() && d.size >= journal::kRecordHeaderBytes &&
                d.size == head.bytes);
  EPOCHFS_CHECK(head.type == d.record.type && head.lsn == d.record.lsn &&
                head.time_ns == d.record.time_ns && head.epoch == d.record.epoch &&
                head.caller == d.record.caller && head.file == d.record.file);
  check_round_trip(d.record);
}

// With a length and checksum that fit, so that the operands are looked at.
void decode_sealed(std::span<const std::byte> in) {
  if (in.size() < journal::kRecordHeaderBytes) return;
  const size_t size = std::min(in.size(), journal::kMaxRecordBytes) / journal::kRecordAlignment *
                      journal::kRecordAlignment;
  std::vector<std::byte> record(in.begin(), in.begin() + long(size));
  const auto length = static_cast<uint32_t>(size);
  std::memcpy(record.data(), &length, sizeof length);
  record[5] = record[6] = record[7] = std::byte{0};  // types below 256, no flags
  testing::reseal(record);
  decode_as_it_is(record);
}

}  // namespace

namespace fuzz {

const uint64_t kShortRun = 200'000;

std::vector<std::string> seeds(testing::Random& random) {
  std::vector<std::string> out;
  for (uint16_t type = 0; type <= journal::kLastRecordType; ++type) {
    testing::OwnedRecord owned;
    testing::fill_random(static_cast<journal::RecordType>(type), random, owned);
    owned.record.lsn = Lsn{random.u64()};
    auto bytes = testing::encoded(owned.record);
    out.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return out;
}

}  // namespace fuzz
}  // namespace epochfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Copied, so that reading past the end is seen.
  std::vector<std::byte> in(size);
  if (size) std::memcpy(in.data(), data, size);
  epochfs::decode_as_it_is(in);
  epochfs::decode_sealed(in);
  return 0;
}
