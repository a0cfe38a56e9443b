// Recovery: the fixture of tests of recovery. What does a mount make of the journal that it
// finds?
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/unit/journal/log/journal_support.h"

namespace epochfs::testing {

class Recovery : public JournalTest {
 protected:
  // Appends one record for each inode; LSNs in lsns_.
  void append(uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
      journal::Record r = write_of(i);
      ASSERT_NE(journal_->append(r), Lsn{0});
      lsns_[i] = r.lsn;
    }
  }
  // Appends until the tail stands in the given segment.
  void append_into(uint64_t segment) {
    while (value(journal_->statistics().tail) / kSegment < segment) {
      append(next_, next_);
      ++next_;
    }
  }
  static std::vector<uint64_t> range(uint64_t first, uint64_t last) {
    std::vector<uint64_t> out;
    for (uint64_t i = first; i <= last; ++i) out.push_back(i);
    return out;
  }

  std::map<uint64_t, Lsn> lsns_;
  uint64_t next_ = 1;
};

}  // namespace epochfs::testing
