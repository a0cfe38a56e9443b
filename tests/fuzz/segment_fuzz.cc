// Fuzz target: the bytes of one segment. The readers go neither back nor past the end, and
// both tell of the same records, all of which stand there. The first byte of an input says
// whether the rest gets the right header and checksums.

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <span>

#include "journal/log/log_view.h"
#include "tests/fuzz/sealing.h"
#include "tests/fuzz/target.h"
#include "tests/support/random.h"
#include "tests/support/records.h"

namespace epochfs {
namespace {

constexpr uint64_t kSegment = 64 << 10;
constexpr uint64_t kIndex = 3, kBase = kIndex * kSegment;
enum Options : uint8_t { kSealHeader = 1, kSealRecords = 2 };

struct Walked {
  std::map<Lsn, size_t> records;  // position, bytes
  std::vector<journal::Damage> damage;
  Lsn end{};
};

// What has to hold of a walk from `from` on, whoever made it.
void check(const Walked& walked, std::span<const std::byte> in, Lsn from) {
  const Lsn limit{kBase + in.size()};
  Lsn last{};
  for (const auto& [lsn, size] : walked.records) {
    EPOCHFS_CHECK(lsn >= from && lsn >= last);
    last = Lsn{value(lsn) + size};
    EPOCHFS_CHECK(last <= limit);
    journal::RecordHead head;
    EPOCHFS_CHECK(journal::decode_head(in.subspan(value(lsn) - kBase), lsn, head) ==
                  journal::DecodeError::kNone);
  }
  EPOCHFS_CHECK(walked.end <= limit && (walked.records.empty() || walked.end == last));
  for (const journal::Damage& d : walked.damage) {
    EPOCHFS_CHECK(d.bytes > 0 && value(d.at) + d.bytes <= value(walked.end));
    // It lies between records.
    auto after = walked.records.lower_bound(d.at);
    EPOCHFS_CHECK(after != walked.records.end() && value(after->first) >= value(d.at) + d.bytes);
  }
}

Walked read(std::span<const std::byte> in, Lsn from) {
  Walked out;
  journal::scan_segment(
      in, kBase, from,
      [&](const journal::Record& r) {
        const journal::Decoded d = journal::decode(in.subspan(value(r.lsn) - kBase), r.lsn);
        EPOCHFS_CHECK(d.error == journal::DecodeError::kNone && d.record == r);
        out.records[r.lsn] = d.size;
        return true;
      },
      &out.damage, out.end);
  check(out, in, from);
  return out;
}

void look(std::span<const std::byte> in, Lsn from, const Walked& expected) {
  journal::LogView::Segment segment;
  segment.index = kIndex;
  segment.bytes = in;
  segment.base = kBase;
  Walked out;
  bool bad_operands = false;
  out.end = journal::LogView::scan(
      segment, from,
      [&](const journal::RecordView& view) {
        out.records[view.head.lsn] = view.bytes.size();
        bad_operands |= view.decode().error != journal::DecodeError::kNone;
        return true;
      },
      &out.damage);
  check(out, in, from);
  // Operands are what only the reader looks at.
  EPOCHFS_CHECK(bad_operands || (out.records == expected.records && out.end == expected.end &&
                                 out.damage.size() == expected.damage.size()));
  if (from > segment.begin()) return;
  std::vector<Lsn> backwards;
  journal::LogView::scan_backwards(segment, Lsn{UINT64_MAX}, [&](const journal::RecordView& view) {
    backwards.push_back(view.head.lsn);
    return true;
  });
  EPOCHFS_CHECK(backwards.size() == out.records.size());
  auto at = out.records.rbegin();
  for (Lsn lsn : backwards) EPOCHFS_CHECK(lsn == (at++)->first);
  // Not the zeros behind the end, when it is not to look that far.
  Walked near;
  near.end = journal::LogView::scan(
      segment, from,
      [&](const journal::RecordView& view) {
        near.records[view.head.lsn] = view.bytes.size();
        return true;
      },
      &near.damage, 512);
  check(near, in, from);
}

void one(std::span<std::byte> in, uint8_t options) {
  const Uuid lineage{};
  if (options & kSealHeader && in.size() >= journal::kSegmentHeaderBytes) {
    fuzz::seal_before(in, journal::kSegmentHeaderBytes - 8);
  }
  if (options & kSealRecords) fuzz::seal_records(in, journal::kSegmentHeaderBytes, kBase);
  auto header = journal::check_segment_header(in, lineage, kIndex, kSegment, "fuzzed");
  EPOCHFS_CHECK(header || header.error().message().find("fuzzed") != std::string::npos);
  for (Lsn from : {Lsn{0}, Lsn{kBase + journal::kSegmentHeaderBytes + 8},
                   Lsn{kBase + in.size() / 2}, Lsn{kBase + in.size() + 8}, Lsn{UINT64_MAX}}) {
    look(in, from, read(in, from));
  }
}

}  // namespace

namespace fuzz {

const uint64_t kShortRun = 40'000;

std::vector<std::string> seeds(testing::Random& random) {
  std::vector<std::string> out;
  for (uint8_t options = 0; options < 4; ++options) {
    alignas(8) std::array<std::byte, journal::kSegmentHeaderBytes> header;
    journal::write_segment_header(header, Uuid{}, kIndex, kSegment);
    std::string bytes(reinterpret_cast<const char*>(header.data()), header.size());
    for (uint64_t n = random.below(8); n > 0; --n) {
      testing::OwnedRecord owned;
      testing::fill_random(
          static_cast<journal::RecordType>(random.below(journal::kLastRecordType + 1)), random,
          owned);
      owned.record.lsn = Lsn{kBase + bytes.size()};
      auto record = testing::encoded(owned.record);
      bytes.append(reinterpret_cast<const char*>(record.data()), record.size());
      if (random.one_in(8)) bytes.append(8 * random.below(20), '\0');  // a hole
    }
    bytes.append(random.below(100), '\0');
    out.push_back(std::string(1, char(options)) + bytes);
  }
  return out;
}

}  // namespace fuzz
}  // namespace epochfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // Copied, so that reading past the end is seen; and no longer than a segment.
  std::vector<std::byte> in(std::min<size_t>(size - 1, epochfs::kSegment));
  if (!in.empty()) std::memcpy(in.data(), data + 1, in.size());
  epochfs::one(in, data[0]);
  return 0;
}
