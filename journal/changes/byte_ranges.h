// ByteRanges: which bytes of one file are meant? A set of disjoint half-open ranges. Adding a
// range joins it with its neighbours, so a gigabyte that is appended 4 KiB at a time is one range.
//
// There can be ten million of these, and most hold a single range. That one is stored inline;
// only two or more make a tree.
#pragma once

#include <algorithm>
#include <boost/icl/interval_set.hpp>
#include <functional>
#include <memory>

#include "journal/base/types.h"

namespace epochfs::journal {

class ByteRanges {
  using Interval = boost::icl::right_open_interval<uint64_t>;
  using Set = boost::icl::interval_set<uint64_t, std::less, Interval>;

 public:
  ByteRanges() = default;
  ByteRanges(const ByteRanges& o)
      : one_(o.one_), many_(o.many_ ? std::make_unique<Set>(*o.many_) : nullptr) {}
  ByteRanges(ByteRanges&& o) noexcept
      : one_(std::exchange(o.one_, {})), many_(std::move(o.many_)) {}
  ByteRanges& operator=(ByteRanges o) noexcept {
    one_ = o.one_;
    many_ = std::move(o.many_);
    return *this;
  }

  void add(ByteRange r) {
    if (r.empty()) return;
    if (!many_ && (one_.empty() || (r.begin <= one_.end && one_.begin <= r.end))) {
      one_ = one_.empty() ? r : ByteRange{std::min(one_.begin, r.begin), std::max(one_.end, r.end)};
      return;
    }
    several().add(Interval(r.begin, r.end));
    settle();
  }
  void add(const ByteRanges& o) {
    if (!o.many_) return add(o.one_);
    several() += *o.many_;
    settle();
  }
  void subtract(ByteRange r) {
    if (r.empty() || !touches(r)) return;
    several().subtract(Interval(r.begin, r.end));
    settle();
  }
  void subtract(const ByteRanges& o) {
    if (!o.many_) return subtract(o.one_);
    several() -= *o.many_;
    settle();
  }
  // The part of this set that lies within r.
  ByteRanges within(ByteRange r) const {
    ByteRanges out;
    if (r.empty()) return out;
    if (!many_) {
      out.add({std::max(one_.begin, r.begin), std::min(one_.end, r.end)});
      return out;
    }
    out.many_ = std::make_unique<Set>(*many_ & Interval(r.begin, r.end));
    out.settle();
    return out;
  }
  ByteRanges within(const ByteRanges& o) const {
    if (!o.many_) return within(o.one_);
    if (!many_) return o.within(one_);
    ByteRanges out;
    out.many_ = std::make_unique<Set>(*many_ & *o.many_);
    out.settle();
    return out;
  }
  bool touches(ByteRange r) const {
    if (r.empty()) return false;
    if (!many_) return !one_.empty() && r.begin < one_.end && one_.begin < r.end;
    return boost::icl::intersects(*many_, Interval(r.begin, r.end));
  }
  bool empty() const { return !many_ && one_.empty(); }
  void clear() {
    one_ = {};
    many_.reset();
  }
  size_t count() const { return many_ ? boost::icl::interval_count(*many_) : one_.empty() ? 0 : 1; }
  uint64_t bytes() const {
    uint64_t n = 0;
    for_each([&](ByteRange r) { n += r.length(); });
    return n;
  }
  bool operator==(const ByteRanges& o) const {
    return one_ == o.one_ && !many_ == !o.many_ && (!many_ || *many_ == *o.many_);
  }

  // Rounds every range outward to multiples of `grain`, a power of two. Never removes a byte.
  void coarsen(uint64_t grain) {
    ByteRanges out;
    for_each([&](ByteRange r) {
      const uint64_t begin = r.begin & ~(grain - 1);
      const bool open = r.end > ByteRange::kEndOfFile - grain;
      out.add({begin, open ? ByteRange::kEndOfFile : (r.end + grain - 1) & ~(grain - 1)});
    });
    *this = std::move(out);
  }
  // If there are more than `limit` ranges, coarsens until at most half of that are left.
  void limit_to(size_t limit) {
    if (count() <= limit) return;
    for (uint64_t grain = 8192; count() > limit / 2; grain *= 2) coarsen(grain);
  }

  // Calls f(ByteRange) for every range, in ascending order.
  template <typename F>
  void for_each(F&& f) const {
    if (!many_) {
      if (!one_.empty()) f(one_);
      return;
    }
    for (const auto& i : *many_) f(ByteRange{i.lower(), i.upper()});
  }

 private:
  // The tree, made if need be, for an operation that may leave several ranges. Call settle()
  // afterwards.
  Set& several() {
    if (many_) return *many_;
    many_ = std::make_unique<Set>();
    if (!one_.empty()) many_->add(Interval(one_.begin, one_.end));
    one_ = {};
    return *many_;
  }
  // Moves the set back inline if it has one range or none, so that equal sets are stored alike.
  void settle() {
    const auto first = many_->begin();
    if (first != many_->end() && std::next(first) != many_->end()) return;
    one_ = first == many_->end() ? ByteRange{} : ByteRange{first->lower(), first->upper()};
    many_.reset();
  }

  ByteRange one_;              // the only range; empty if there is none, or several
  std::unique_ptr<Set> many_;  // two ranges at least
};

}  // namespace epochfs::journal
