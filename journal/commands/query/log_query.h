// LogQuery: in which part of the log are the records that somebody asks for? It reads them forward
// or backward. The manifest and the first record of each segment turn epochs and times into
// positions; nothing else is read for that.
//
// It only narrows the search. The caller still tests each record (filter.h). One thread.
#pragma once

#include <optional>

#include "journal/log/log_view.h"

namespace epochfs::journal {

// Inclusive on both sides. Records outside the bounds may be skipped, or may be passed on.
struct LogBounds {
  uint64_t since_ns = 0, until_ns = UINT64_MAX;
  uint64_t first_epoch = 0, last_epoch = UINT64_MAX;
};

class LogQuery {
 public:
  // Borrows the view. Reads nothing at or after `end`.
  LogQuery(const LogView& view, const LogBounds& bounds, Lsn end);

  Lsn from() const { return from_; }
  const std::vector<const LogView::Segment*>& segments() const { return segments_; }

  // Calls f(RecordView) -> bool for each record that may be within the bounds, except padding,
  // until f returns false. Collects damage that it passed before the view's settled(), and what
  // is missing at the end of the log.
  template <typename F>
  void forward(F&& f, std::vector<Damage>& damage) const;
  template <typename F>
  void backward(F&& f, std::vector<Damage>& damage) const;

 private:
  void narrow_by_epoch(const LogBounds& bounds);
  void choose_segments(const LogBounds& bounds);
  // Adds to `damage` what was found before settled(). Later holes may be records being copied.
  void settle(std::vector<Damage>& found, std::vector<Damage>& damage) const;
  void note_missing_before(const LogView::Segment& segment, Lsn end_of_last,
                           std::vector<Damage>& damage) const;

  const LogView& view_;
  Lsn from_{}, to_{};
  std::optional<Damage> lost_behind_end_;  // as far as it is within the bounds
  std::vector<const LogView::Segment*> segments_;
};

template <typename F>
void LogQuery::forward(F&& f, std::vector<Damage>& damage) const {
  Lsn end{};  // everything before it is accounted for
  for (const LogView::Segment* s : segments_) {
    std::vector<Damage> found;
    note_missing_before(*s, end, found);
    bool stopped = false;
    end = LogView::scan(
        *s, from_,
        [&](const RecordView& view) {
          stopped = view.head.lsn >= to_;
          if (!stopped && view.head.type != RecordType::kPadding) stopped = !f(view);
          return !stopped;
        },
        &found);
    settle(found, damage);
    if (stopped) return;
  }
  if (lost_behind_end_) damage.push_back(*lost_behind_end_);
}

template <typename F>
void LogQuery::backward(F&& f, std::vector<Damage>& damage) const {
  if (lost_behind_end_) damage.push_back(*lost_behind_end_);
  const LogView::Segment* later = nullptr;  // the one behind this one that holds records
  for (auto s = segments_.rbegin(); s != segments_.rend(); ++s) {
    std::vector<Damage> found;
    bool stopped = false;
    const Lsn end = LogView::scan_backwards(
        **s, to_,
        [&](const RecordView& view) {
          stopped = view.head.lsn < from_;
          if (!stopped && view.head.type != RecordType::kPadding) stopped = !f(view);
          return !stopped;
        },
        &found);
    if (later && (*s)->any) note_missing_before(*later, end, found);
    if ((*s)->any) later = *s;
    settle(found, damage);
    if (stopped) return;
  }
}

}  // namespace epochfs::journal
