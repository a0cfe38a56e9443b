#include "journal/commands/query/log_query.h"

#include <algorithm>

#include "journal/volume/epochs.h"

namespace epochfs::journal {
namespace {

// A writer reads the clock before it gets its place in the log. So the times of neighbours may be
// out of order by as long as a thread can be held up in between.
constexpr uint64_t kDisorderNs = 10'000'000'000;

uint64_t plus(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

}  // namespace

LogQuery::LogQuery(const LogView& view, const LogBounds& bounds, Lsn end)
    : view_(view), from_(view.oldest()), to_(end) {
  lost_behind_end_ = view.lost_behind_end();
  narrow_by_epoch(bounds);
  choose_segments(bounds);
}

void LogQuery::narrow_by_epoch(const LogBounds& bounds) {
  // If the manifest cannot be read, nothing is narrowed: each record holds its epoch.
  const int dir = view_.volume().dir();
  if (bounds.first_epoch > 1) {
    auto before = read_epoch(dir, EpochId{bounds.first_epoch - 1});
    if (before && *before) from_ = std::max(from_, (*before)->seal);
  }
  if (bounds.last_epoch != UINT64_MAX) {
    auto last = read_epoch(dir, EpochId{bounds.last_epoch});
    if (last && *last && value((*last)->epoch) == bounds.last_epoch) {
      const Lsn behind{value((*last)->seal) + 1};
      to_ = std::min(to_, behind);
      if (lost_behind_end_ && lost_behind_end_->at >= behind) lost_behind_end_.reset();
    }
  }
}

// The clock may have been set back while the log grew. So segments are skipped only from the two
// ends, as long as neither the segment nor the one behind it begins within the bounds.
void LogQuery::choose_segments(const LogBounds& bounds) {
  std::vector<const LogView::Segment*> all;
  for (const LogView::Segment& s : view_.segments()) {
    if (s.end() > from_ && s.begin() < to_) all.push_back(&s);
  }
  size_t first = 0, last = all.size();
  auto too_old = [&](const LogView::Segment& s) {
    return s.any && plus(s.first.time_ns, kDisorderNs) < bounds.since_ns;
  };
  while (first + 1 < all.size() && too_old(*all[first]) && too_old(*all[first + 1])) ++first;
  auto too_new = [&](const LogView::Segment& s) {
    if (!s.any) return bounds.until_ns != UINT64_MAX;  // prepared ahead
    return s.first.time_ns > plus(bounds.until_ns, kDisorderNs);
  };
  while (last > first && too_new(*all[last - 1])) --last;
  segments_.assign(all.begin() + long(first), all.begin() + long(last));
}

void LogQuery::note_missing_before(const LogView::Segment& s, Lsn end_of_last,
                                   std::vector<Damage>& damage) const {
  const uint64_t end = value(end_of_last);
  if (end == 0 || !s.any || s.base < end || s.base - end < kRecordHeaderBytes) return;
  damage.push_back({end_of_last, s.base - end, DecodeError::kMissing});
}

void LogQuery::settle(std::vector<Damage>& found, std::vector<Damage>& damage) const {
  for (const Damage& d : found) {
    if (d.at < view_.settled()) damage.push_back(d);
  }
}

}  // namespace epochfs::journal
