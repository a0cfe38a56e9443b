// Volumes: where do the journals of tests live? In a volume "volume" below a temporary
// directory, with segments so small that a test fills some.
#pragma once

#include <cstdint>

#include "journal/volume/volume.h"
#include "tests/support/temporary_directory.h"

namespace epochfs::testing {

constexpr uint64_t kSmallSegment = 64 << 10;

journal::VolumeInfo volume_info(uint64_t segment_bytes = kSmallSegment);
journal::Volume make_volume(const TemporaryDirectory& in, uint64_t segment_bytes = kSmallSegment);

}  // namespace epochfs::testing
