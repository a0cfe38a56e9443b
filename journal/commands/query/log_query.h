// LogQuery: in which part of the log can the records lie that somebody asks for, and
// what are they, from the front or from the back? Times and epochs become positions with
// what the manifest and the first record of each segment say; no more is read for it.
#pragma once

#include "journal/log/log_view.h"

namespace epochfs::journal {

// Inclusive on both sides. What lies outside may be passed by, or may come.
struct LogBounds {
  uint64_t since_ns = 0, until_ns = UINT64_MAX;
  uint64_t first_epoch = 0, last_epoch = UINT64_MAX;
};

class LogQuery {
 public:
  // Borrows the view. end: nothing from there on is read.
  LogQuery(const LogView& view, const LogBounds& bounds, Lsn end);

  Lsn from() const { return from_; }
  const std::vector<const LogView::Segment*>& segments() const { return segments_; }

  // Calls f(RecordView) -> bool for each record that may be within the bounds, padding
  // left out, until f returns false. Damage before the view's settled() is collected.
  template <typename F>
  void forward(F&& f, std::vector<Damage>& damage) const;
  template <typename F>
  void backward(F&& f, std::vector<Damage>& damage) const;

 private:
  void narrow_by_epoch(const LogBounds& bounds);
  void choose_segments(const LogBounds& bounds);
  // Keeps what is damage, and adds the hole between two neighbours where there is one.
  void settle(std::vector<Damage>& found, std::vector<Damage>& damage) const;
  void note_missing_before(const LogView::Segment& segment, Lsn end_of_last,
                           std::vector<Damage>& damage) const;

  const LogView& view_;
  Lsn from_{}, to_{};
  std::vector<const LogView::Segment*> segments_;
};

template <typename F>
void LogQuery::forward(F&& f, std::vector<Damage>& damage) const {
  Lsn end{};  // what lies before it is accounted for
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
}

template <typename F>
void LogQuery::backward(F&& f, std::vector<Damage>& damage) const {
  for (auto s = segments_.rbegin(); s != segments_.rend(); ++s) {
    std::vector<Damage> found;
    bool stopped = false;
    LogView::scan_backwards(
        **s, to_,
        [&](const RecordView& view) {
          stopped = view.head.lsn < from_;
          if (!stopped && view.head.type != RecordType::kPadding) stopped = !f(view);
          return !stopped;
        },
        &found);
    settle(found, damage);
    if (stopped) return;
  }
}

}  // namespace epochfs::journal
