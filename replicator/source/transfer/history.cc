#include "replicator/source/transfer/history.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

namespace epochfs::replicator {
namespace {

uint64_t chain(uint64_t before, uint64_t number) {
  return XXH3_64bits_withSeed(&number, sizeof number, before);
}

uint64_t never_zero(uint64_t hash) { return hash == 0 ? 1 : hash; }

}  // namespace

Result<std::optional<journal::SealedEpoch>> sealed_epoch(const journal::Volume& volume,
                                                         EpochId epoch) {
  EPOCHFS_TRY(auto sealed, journal::read_epoch(volume.dir(), epoch));
  if (sealed && sealed->epoch != epoch) sealed.reset();  // it is the newest, which is older
  return sealed;
}

uint64_t state_hash_after(uint64_t before, const std::string& relationship, const Uuid& lineage,
                          const journal::SealedEpoch& epoch) {
  uint64_t h = XXH3_64bits_withSeed(relationship.data(), relationship.size(), before);
  h = XXH3_64bits_withSeed(lineage.bytes.data(), lineage.bytes.size(), h);
  h = chain(h, value(epoch.epoch));
  h = chain(h, epoch.barrier_ns);
  return never_zero(chain(h, value(epoch.seal)));
}

Conclusion conclude(const Relationship& known, const TargetHolds& target,
                    const std::optional<journal::SealedEpoch>& sealed) {
  const bool as_known = target.cursor == known.cursor && target.state_hash == known.state_hash;
  if (as_known && target.cursor == EpochId{0}) return Conclusion::kSame;
  if (!sealed || sealed->epoch != target.cursor) return Conclusion::kUnknownEpoch;
  if (as_known) {
    return sealed->barrier_ns == known.barrier_time_ns ? Conclusion::kSame
                                                       : Conclusion::kUnknownEpoch;
  }
  // Not always a newer epoch: a comparison may have ended with the one that was held before.
  if (target.state_hash == state_hash_after(known.state_hash, known.id, known.lineage, *sealed)) {
    return Conclusion::kAcknowledgementLost;
  }
  return Conclusion::kAnotherState;
}

std::string reason_of(Conclusion conclusion, const TargetHolds& target) {
  if (conclusion == Conclusion::kUnknownEpoch && target.cursor != EpochId{0}) {
    return fmt::format(
        "the target holds epoch {}, which is not in this journal; was the source put back?",
        value(target.cursor));
  }
  return "the target holds another state than was known";
}

Result<Versions> Versions::read(const journal::Volume& volume, EpochId since, EpochId until) {
  UniqueFd manifest(::openat(volume.dir(), journal::kEpochsFile, O_RDONLY | O_CLOEXEC));
  if (!manifest) return fail_errno("open epoch manifest");
  std::vector<journal::SealedEpoch> epochs;
  for (EpochId e = next(since); e <= until; e = next(e)) {
    EPOCHFS_TRY(auto sealed, journal::read_epoch_entry(manifest.get(), e));
    if (sealed) epochs.push_back(*sealed);
  }
  return Versions(std::move(epochs));
}

uint64_t Versions::of(Lsn newest_change) const {
  if (newest_change == Lsn{0}) return 0;
  auto of = std::lower_bound(epochs_.begin(), epochs_.end(), newest_change,
                             [](const auto& epoch, Lsn lsn) { return epoch.seal < lsn; });
  if (of == epochs_.end() || newest_change < of->begin) return 0;
  return never_zero(chain(chain(of->barrier_ns, value(of->seal)), value(newest_change)));
}

}  // namespace epochfs::replicator
