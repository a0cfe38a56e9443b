// HousekeepingOptions: how much room may the journal take, and what gives way when it is short?
// Plain values; fs/housekeeping acts on them.
#pragma once

#include <cstdint>

#include "journal/log/journal.h"

namespace epochfs::fs {

enum class WhenFull { kDegrade, kBlock };

struct HousekeepingOptions {
  journal::Retention keep;
  uint64_t quota_bytes = 0;  // of journal, checkpoints and pre-images together; 0: none
  WhenFull when_full = WhenFull::kDegrade;
};

// A smaller quota leaves no room for segments to come and go.
constexpr uint64_t kMinQuotaSegments = 4;

}  // namespace epochfs::fs
