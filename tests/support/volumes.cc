#include "tests/support/volumes.h"

#include "tests/support/expect.h"

namespace epochfs::testing {

journal::VolumeInfo volume_info(uint64_t segment_bytes) {
  journal::VolumeInfo info;
  info.lineage = Uuid::random();
  info.identity = {.filesystem = 7, .root = {2, 1'700'000'000'000'000'000}};
  info.created_ns = 1'700'000'000'000'000'001;
  info.segment_bytes = segment_bytes;
  info.backing_path = "/srv/data";
  return info;
}

journal::Volume make_volume(const TemporaryDirectory& in, uint64_t segment_bytes) {
  return must(
      journal::Volume::create(Storage::system(), in / "volume", volume_info(segment_bytes)));
}

}  // namespace epochfs::testing
