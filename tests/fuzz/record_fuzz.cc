// Fuzz target: record codec and segment reader over any bytes.
//
// What must hold, besides that nothing crashes: whatever decodes encodes to a
// record that decodes to the same, and a scan never goes back or past the end.
// Built here with a driver of random inputs (random_inputs.cc). With libFuzzer:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. -D_GNU_SOURCE
//     tests/fuzz/record_fuzz.cc journal/{record,reader,epochs,storage,types,result,unix,volume}.cc
//     -lfmt -lxxhash -o record_fuzz
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "journal/reader.h"
#include "journal/record.h"

namespace epochfs {
namespace {

void check_round_trip(const Record& record) {
  if (record.type == RecordType::kPadding) return;  // of any length
  std::vector<std::byte> again(encoded_size(record));
  encode(record, again);
  Decoded d = decode(again, record.lsn);
  EPOCHFS_CHECK(d.error == DecodeError::kNone && d.record == record);
}

// As the bytes are: mostly refused for their checksum.
void decode_as_it_is(std::span<const std::byte> in) {
  uint64_t lsn = 0;
  if (in.size() >= 24) std::memcpy(&lsn, in.data() + 16, sizeof lsn);
  Decoded d = decode(in, Lsn{lsn});
  if (d.error == DecodeError::kNone) {
    EPOCHFS_CHECK(d.size <= in.size() && d.size >= kRecordHeaderBytes);
    check_round_trip(d.record);
  }
}

// With a length and checksum that fit, so that the operands are looked at.
void decode_sealed(std::span<const std::byte> in) {
  if (in.size() < kRecordHeaderBytes) return;
  const size_t size = std::min(in.size(), kMaxRecordBytes) / kRecordAlignment * kRecordAlignment;
  std::vector<std::byte> record(in.begin(), in.begin() + long(size));
  const auto length = static_cast<uint32_t>(size);
  std::memcpy(record.data(), &length, sizeof length);
  record[5] = record[6] = record[7] = std::byte{0};  // types below 256, no flags
  uint64_t head;
  std::memcpy(&head, record.data(), sizeof head);
  const uint64_t sum = XXH3_64bits_withSeed(record.data() + 16, size - 16, head);
  std::memcpy(record.data() + 8, &sum, sizeof sum);
  decode_as_it_is(record);
}

// The whole input as a segment.
void scan(std::span<const std::byte> in) {
  constexpr uint64_t base = 3 << 20;
  for (Lsn from : {Lsn{0}, Lsn{base + kSegmentHeaderBytes + 8}, Lsn{base + in.size() + 8}}) {
    std::vector<Damage> damage;
    uint64_t position = 0;
    Lsn end{};
    scan_segment(in, base, from, [&](const Record& r) {
      EPOCHFS_CHECK(value(r.lsn) >= position && value(r.lsn) >= value(from));
      position = value(r.lsn) + kRecordHeaderBytes;
      check_round_trip(r);
      return true;
    }, &damage, end);
    EPOCHFS_CHECK(value(end) <= base + in.size());
    for (const Damage& d : damage) EPOCHFS_CHECK(value(d.at) + d.bytes <= base + in.size());
  }
  (void)check_segment_header(in, Uuid{}, 3, 1 << 20, "fuzz");
}

}  // namespace
}  // namespace epochfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Copied, so that reading past the end is seen.
  std::vector<std::byte> in(size);
  std::memcpy(in.data(), data, size);
  epochfs::decode_as_it_is(in);
  epochfs::decode_sealed(in);
  epochfs::scan(in);
  return 0;
}
