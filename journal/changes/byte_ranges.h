// ByteRanges: which bytes of one file are meant? A set of disjoint half-open ranges. Adding a range
// joins it with its neighbours, so a gigabyte that is appended 4 KiB at a time is one range.
//
// There can be ten million of these, and most hold a single range. That one is stored inline; only
// two or more make a tree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "journal/base/types.h"

namespace epochfs::journal {

class ByteRanges {
 public:
  ByteRanges() = default;
  ByteRanges(const ByteRanges& o) : one_(o.one_), many_(o.many_ ? copy(*o.many_) : nullptr) {}
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
    add_to_tree(r);
  }
  void add(const ByteRanges& o);
  void subtract(ByteRange r);
  void subtract(const ByteRanges& o);
  // The part of this set that lies within r, or within the ranges of o.
  ByteRanges within(ByteRange r) const;
  ByteRanges within(const ByteRanges& o) const;
  bool touches(ByteRange r) const {
    if (r.empty()) return false;
    if (!many_) return !one_.empty() && r.begin < one_.end && one_.begin < r.end;
    return tree_touches(r);
  }
  bool empty() const { return !many_ && one_.empty(); }
  void clear() {
    one_ = {};
    many_.reset();
  }
  size_t count() const { return many_ ? tree_count() : one_.empty() ? 0 : 1; }
  uint64_t bytes() const;
  bool operator==(const ByteRanges& o) const;

  // Rounds every range outward to multiples of `grain`, a power of two. Never removes a byte.
  void coarsen(uint64_t grain);
  // If there are more than `limit` ranges, coarsens until at most half of that are left.
  void limit_to(size_t limit);

  // Calls f(ByteRange) for every range, in ascending order.
  template <typename F>
  void for_each(F&& f) const {
    if (many_) {
      using Function = std::remove_reference_t<F>;
      for_each_in_tree([](const void* f, ByteRange r) { call<Function>(f, r); }, std::addressof(f));
    } else if (!one_.empty()) {
      f(one_);
    }
  }

 private:
  // Boost's interval set, which is expensive to include.
  struct Tree;
  struct Delete {
    void operator()(Tree* tree) const;
  };
  using TreePtr = std::unique_ptr<Tree, Delete>;

  template <typename F>
  static void call(const void* f, ByteRange r) {
    (*static_cast<F*>(const_cast<void*>(f)))(r);
  }
  static TreePtr copy(const Tree& tree);
  void add_to_tree(ByteRange r);
  bool tree_touches(ByteRange r) const;
  size_t tree_count() const;
  void for_each_in_tree(void (*call)(const void* f, ByteRange r), const void* f) const;
  Tree& tree();
  void settle();

  ByteRange one_;  // the only range; empty if there is none, or several
  TreePtr many_;   // two ranges at least
};

}  // namespace epochfs::journal
