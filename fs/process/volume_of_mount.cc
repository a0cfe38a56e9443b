#include "fs/process/volume_of_mount.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <filesystem>

#include "fs/base/housekeeping_options.h"
#include "journal/base/clock.h"
#include "journal/base/unix.h"
#include "journal/log/reader.h"

namespace epochfs::fs {
namespace {

// Small enough that a quota, if there is one, has room for many.
uint64_t segment_bytes_for(uint64_t quota) {
  if (quota == 0) return journal::kDefaultSegmentBytes;
  constexpr uint64_t least = 1 << 20;
  return std::clamp(std::bit_floor(quota / 16), least, journal::kDefaultSegmentBytes);
}

Result<void> check_quota(uint64_t quota, uint64_t segment_bytes) {
  const uint64_t least = kMinQuotaSegments * segment_bytes;
  if (quota == 0 || quota >= least) return {};
  return fail(
      fmt::format("mount option journal-quota: {} bytes are too few for this journal, whose "
                  "segments have {} MiB; give it {}M at least",
                  quota, segment_bytes >> 20, least >> 20),
      0, ExitStatus::kUsage);
}

journal::VolumeInfo new_volume(const journal::VolumeIdentity& identity, const std::string& backing,
                               uint64_t quota) {
  return {.lineage = Uuid::random(),
          .identity = identity,
          .created_ns = now_ns(),
          .segment_bytes = segment_bytes_for(quota),
          .backing_path = backing};
}

Result<journal::Volume> volume_below(const std::string& state,
                                     const journal::VolumeIdentity& identity,
                                     const std::string& backing, uint64_t quota) {
  if (auto made = journal::prepare_state_dir(Storage::system(), state); !made) {
    if (made.error().code != EACCES) return tl::unexpected(made.error());
    return fail(fmt::format("mount {}: {}; name a state directory of your own with --state, or run "
                            "it as root",
                            backing, made.error().message()),
                0, ExitStatus::kNotAuthorized);
  }
  EPOCHFS_TRY(auto found, journal::find_volume(state, identity));
  if (found) return *std::move(found);
  const journal::VolumeInfo info = new_volume(identity, backing, quota);
  return journal::Volume::create(
      Storage::system(), fmt::format("{}/volumes/{}", state, info.lineage.to_string()), info);
}

Result<journal::Volume> volume_at(const std::string& path, const journal::VolumeIdentity& identity,
                                  const std::string& backing, uint64_t quota) {
  struct stat st;
  if (::stat((path + "/" + journal::kVolumeFile).c_str(), &st) == 0) {
    EPOCHFS_TRY(journal::Volume volume, journal::Volume::open(path));
    if (volume.info().identity == identity) return volume;
    return fail(
        fmt::format("open journal {}: it belongs to another directory, once {}; name "
                    "another folder with --journal",
                    path, volume.info().backing_path));
  }
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_empty(path, error)) {
    return fail(
        fmt::format("open journal {}: it is no journal, and not empty; name another folder "
                    "with --journal",
                    path));
  }
  return journal::Volume::create(Storage::system(), path, new_volume(identity, backing, quota));
}

}  // namespace

Result<journal::Volume> volume_of_mount(const JournalPlace& place,
                                        const journal::VolumeIdentity& identity,
                                        const std::string& backing, uint64_t quota) {
  EPOCHFS_DO(check_quota(quota, segment_bytes_for(quota)));
  EPOCHFS_TRY(journal::Volume volume, place.is_named()
                                          ? volume_at(place.journal, identity, backing, quota)
                                          : volume_below(place.state, identity, backing, quota));
  EPOCHFS_DO(check_quota(quota, volume.info().segment_bytes));
  return volume;
}

}  // namespace epochfs::fs
