// Sealing: how do damaged bytes get past their checksums? A fuzzer never guesses a
// checksum, so targets can ask for right ones, and what stands behind them is looked at.
#pragma once

#include <xxhash.h>

#include <cstring>
#include <span>

#include "journal/log/reader.h"

#include "tests/support/records.h"

namespace epochfs::fuzz {

// Gives everything from offset `at` on that has a possible length the checksum of a record,
// and the LSN of its place; with `intents` the LSN 0.
inline void seal_records(std::span<std::byte> bytes, size_t at, uint64_t base,
                         bool intents = false) {
  while (at + journal::kRecordHeaderBytes <= bytes.size()) {
    uint32_t length;
    std::memcpy(&length, bytes.data() + at, sizeof length);
    if (length < journal::kRecordHeaderBytes || length > journal::kMaxRecordBytes ||
        length % journal::kRecordAlignment != 0 || length > bytes.size() - at) {
      at += journal::kRecordAlignment;
      continue;
    }
    const uint64_t lsn = intents ? 0 : base + at;
    std::memcpy(bytes.data() + at + 16, &lsn, sizeof lsn);
    testing::reseal(bytes.subspan(at, length));
    at += length;
  }
}

// A checksum of the `covered` bytes before it, as in segment headers and manifest entries.
inline void seal_before(std::span<std::byte> bytes, size_t covered) {
  const uint64_t sum = XXH3_64bits(bytes.data(), covered);
  std::memcpy(bytes.data() + covered, &sum, sizeof sum);
}

}  // namespace epochfs::fuzz
