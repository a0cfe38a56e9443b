#include "journal/commands/query/net_effect.h"

namespace epochfs::journal {

void NetEffect::add(const Record& r) {
  fold_.add(r);
  if (r.type == RecordType::kWrite && r.range.end != ByteRange::kEndOfFile) {
    written_[r.file].add(r.range);
  } else if (r.type == RecordType::kTruncate) {
    auto file = written_.find(r.file);
    if (file != written_.end()) file->second.subtract({r.range.begin, ByteRange::kEndOfFile});
  }
}

NetCounts NetEffect::finish() {
  const ChangeSet set = fold_.finish();
  NetCounts out{.names = set.names.size(), .files = set.files.size(), .gap = set.gap};
  for (const auto& [file, ranges] : written_) {
    // A file that is gone cancels out.
    if (set.files.count(file)) out.bytes += ranges.bytes();
  }
  written_.clear();
  return out;
}

}  // namespace epochfs::journal
