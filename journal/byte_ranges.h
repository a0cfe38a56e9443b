// ByteRanges: which bytes of one file are meant? A set of disjoint half-open
// ranges; adding coalesces neighbours, so appending a gigabyte 4 KiB at a time
// is one range.
#pragma once

#include <algorithm>
#include <boost/icl/interval_set.hpp>
#include <functional>

#include "journal/types.h"

namespace epochfs {

class ByteRanges {
  using Interval = boost::icl::right_open_interval<uint64_t>;
  using Set = boost::icl::interval_set<uint64_t, std::less, Interval>;

 public:
  void add(ByteRange r) {
    if (!r.empty()) set_.add(Interval(r.begin, r.end));
  }
  void add(const ByteRanges& o) { set_ += o.set_; }
  void subtract(ByteRange r) {
    if (!r.empty()) set_.subtract(Interval(r.begin, r.end));
  }
  void subtract(const ByteRanges& o) { set_ -= o.set_; }
  // The part of this set that lies within r.
  ByteRanges within(ByteRange r) const {
    ByteRanges out;
    if (!r.empty()) out.set_ = set_ & Interval(r.begin, r.end);
    return out;
  }
  ByteRanges within(const ByteRanges& o) const {
    ByteRanges out;
    out.set_ = set_ & o.set_;
    return out;
  }
  bool touches(ByteRange r) const {
    return !r.empty() && boost::icl::intersects(set_, Interval(r.begin, r.end));
  }
  bool empty() const { return set_.empty(); }
  void clear() { set_.clear(); }
  size_t count() const { return boost::icl::interval_count(set_); }
  uint64_t bytes() const {
    uint64_t n = 0;
    for (const auto& i : set_) n += i.upper() - i.lower();
    return n;
  }
  bool operator==(const ByteRanges& o) const { return set_ == o.set_; }

  // Rounds every range outward to multiples of `grain` (a power of two). Only adds.
  void coarsen(uint64_t grain) {
    ByteRanges out;
    for_each([&](ByteRange r) {
      const uint64_t begin = r.begin & ~(grain - 1);
      const bool open = r.end > ByteRange::kEndOfFile - grain;
      out.add({begin, open ? ByteRange::kEndOfFile : (r.end + grain - 1) & ~(grain - 1)});
    });
    *this = std::move(out);
  }
  // Coarsens, to half of `limit`, once there are more ranges than that.
  void limit_to(size_t limit) {
    if (count() <= limit) return;
    for (uint64_t grain = 8192; count() > limit / 2; grain *= 2) coarsen(grain);
  }

  // Calls f(ByteRange) for every range, ascending.
  template <typename F>
  void for_each(F&& f) const {
    for (const auto& i : set_) f(ByteRange{i.lower(), i.upper()});
  }

 private:
  Set set_;
};

}  // namespace epochfs
