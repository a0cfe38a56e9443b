#include "journal/changes/byte_ranges.h"

#include <boost/icl/interval_set.hpp>
#include <functional>

namespace epochfs::journal {
namespace {

using Interval = boost::icl::right_open_interval<uint64_t>;
using Set = boost::icl::interval_set<uint64_t, std::less, Interval>;

Interval interval(ByteRange r) { return Interval(r.begin, r.end); }

}  // namespace

struct ByteRanges::Tree {
  Set ranges;
};

void ByteRanges::Delete::operator()(Tree* tree) const { delete tree; }

ByteRanges::TreePtr ByteRanges::copy(const Tree& tree) { return TreePtr(new Tree(tree)); }

void ByteRanges::add_to_tree(ByteRange r) {
  tree().ranges.add(interval(r));
  settle();
}

void ByteRanges::add(const ByteRanges& o) {
  if (!o.many_) return add(o.one_);
  tree().ranges += o.many_->ranges;
  settle();
}

void ByteRanges::subtract(ByteRange r) {
  if (r.empty() || !touches(r)) return;
  tree().ranges.subtract(interval(r));
  settle();
}

void ByteRanges::subtract(const ByteRanges& o) {
  if (!o.many_) return subtract(o.one_);
  tree().ranges -= o.many_->ranges;
  settle();
}

ByteRanges ByteRanges::within(ByteRange r) const {
  ByteRanges out;
  if (r.empty()) return out;
  if (!many_) {
    out.add({std::max(one_.begin, r.begin), std::min(one_.end, r.end)});
    return out;
  }
  out.many_.reset(new Tree{many_->ranges & interval(r)});
  out.settle();
  return out;
}

ByteRanges ByteRanges::within(const ByteRanges& o) const {
  if (!o.many_) return within(o.one_);
  if (!many_) return o.within(one_);
  ByteRanges out;
  out.many_.reset(new Tree{many_->ranges & o.many_->ranges});
  out.settle();
  return out;
}

bool ByteRanges::tree_touches(ByteRange r) const {
  return boost::icl::intersects(many_->ranges, interval(r));
}

size_t ByteRanges::tree_count() const { return boost::icl::interval_count(many_->ranges); }

uint64_t ByteRanges::bytes() const {
  uint64_t n = 0;
  for_each([&](ByteRange r) { n += r.length(); });
  return n;
}

bool ByteRanges::operator==(const ByteRanges& o) const {
  return one_ == o.one_ && !many_ == !o.many_ && (!many_ || many_->ranges == o.many_->ranges);
}

void ByteRanges::coarsen(uint64_t grain) {
  ByteRanges out;
  for_each([&](ByteRange r) {
    const uint64_t begin = r.begin & ~(grain - 1);
    const bool open = r.end > ByteRange::kEndOfFile - grain;
    out.add({begin, open ? ByteRange::kEndOfFile : (r.end + grain - 1) & ~(grain - 1)});
  });
  *this = std::move(out);
}

void ByteRanges::limit_to(size_t limit) {
  if (count() <= limit) return;
  for (uint64_t grain = 8192; count() > limit / 2; grain *= 2) coarsen(grain);
}

void ByteRanges::for_each_in_tree(void (*call)(const void* f, ByteRange r), const void* f) const {
  for (const auto& i : many_->ranges) call(f, {i.lower(), i.upper()});
}

// The tree, made if need be, for an operation that may leave several ranges. Call settle()
// afterwards.
ByteRanges::Tree& ByteRanges::tree() {
  if (many_) return *many_;
  many_.reset(new Tree);
  if (!one_.empty()) many_->ranges.add(interval(one_));
  one_ = {};
  return *many_;
}

// Moves the set back inline if it has one range or none, so that equal sets are stored alike.
void ByteRanges::settle() {
  const Set& ranges = many_->ranges;
  const auto first = ranges.begin();
  if (first != ranges.end() && std::next(first) != ranges.end()) return;
  one_ = first == ranges.end() ? ByteRange{} : ByteRange{first->lower(), first->upper()};
  many_.reset();
}

}  // namespace epochfs::journal
