#include "fs/recording/dirty_layers.h"

#include <algorithm>

#include "journal/base/result.h"

namespace epochfs::fs {
namespace {

constexpr size_t kSmallLayer = 4096;  // files; merging these costs less than keeping them apart

}  // namespace

size_t DirtyLayers::shard_of(const FileId& id) {
  // Uses other bits than the maps use for their buckets.
  return (std::hash<FileId>()(id) * 0x9E3779B97F4A7C15ull) >> 58;
}

bool DirtyLayers::Layer::contains(const FileId& id) const {
  if (all) return true;
  if (!checkpoint_) return shards_[shard_of(id)].contains(id);
  const auto change = checkpoint_->find(id);
  return change && change->touched;
}

void DirtyLayers::Layer::add_dirty(const FileId& id, ByteRange range,
                                   journal::ByteRanges& out) const {
  if (all) return out.add(range);
  if (checkpoint_) {
    const auto change = checkpoint_->find(id);
    if (!change) return;
    return change->whole ? out.add(range) : out.add(change->data.within(range));
  }
  const Map& map = shards_[shard_of(id)];
  auto file = map.find(id);
  if (file != map.end() && file->second.touches(range)) out.add(file->second.within(range));
}

size_t DirtyLayers::Layer::files() const {
  size_t n = checkpoint_ ? checkpoint_->info().files : 0;
  for (const Map& map : shards_) n += map.size();
  return n;
}

DirtyLayers::LayerPtr DirtyLayers::layer_of(const journal::CheckpointPtr& checkpoint) {
  auto layer = std::make_shared<Layer>();
  layer->first = checkpoint->info().first;
  layer->last = checkpoint->info().last;
  layer->all = checkpoint->info().gap;
  layer->checkpoint_ = checkpoint;
  return layer;
}

void DirtyLayers::restore(const std::vector<journal::CheckpointPtr>& checkpoints,
                          const journal::ChangeSet& changes, EpochId since) {
  if (changes.gap) dirty_all();
  for (const auto& [id, file] : changes.files) {
    OpenShard& shard = open_[shard_of(id)];
    Lock lock(shard.mutex);
    journal::ByteRanges& ranges = shard.files[id];
    ranges.add(file.data);
    if (file.fresh || file.whole) ranges.add(ByteRange{0, ByteRange::kEndOfFile});
  }
  Lock lock(mutex_);
  EPOCHFS_CHECK(frozen_.empty());
  for (const journal::CheckpointPtr& c : checkpoints) frozen_.push_back(layer_of(c));
  known_since_ = since;
}

void DirtyLayers::adopt(const std::vector<journal::CheckpointPtr>& checkpoints) {
  if (checkpoints.empty()) return;
  const EpochId first = checkpoints.front()->info().first, last = checkpoints.back()->info().last;
  std::vector<LayerPtr> layers;  // the old ones are freed outside the lock
  Lock serial(compact_mutex_);
  Lock lock(mutex_);
  if (!known_since_ || frozen_.empty() || frozen_.back()->last < last) return;
  layers.swap(frozen_);
  for (const LayerPtr& layer : layers) {
    if (layer->last < first) frozen_.push_back(layer);
  }
  for (const journal::CheckpointPtr& c : checkpoints) {
    if (c->info().last > *known_since_) frozen_.push_back(layer_of(c));
  }
  // A layer that begins before the checkpoints end says nothing wrong, only some things twice.
  for (const LayerPtr& layer : layers) {
    if (layer->last > last) frozen_.push_back(layer);
  }
}

void DirtyLayers::dirty(const FileId& id, ByteRange data) {
  OpenShard& shard = open_[shard_of(id)];
  Lock lock(shard.mutex);
  shard.files[id].add(data);
}

void DirtyLayers::seal(EpochId sealed) {
  Lock lock(mutex_);
  auto layer = spare_ ? std::move(spare_) : std::make_shared<Layer>();
  layer->last = sealed;
  layer->all = open_all_.exchange(false);
  for (size_t i = 0; i < kShards; ++i) {
    OpenShard& shard = open_[i];
    Lock shard_lock(shard.mutex);
    layer->shards_[i].swap(shard.files);
  }
  if (!known_since_) {
    // This epoch began in another process, and restore() was not called.
    known_since_ = sealed;
    return;
  }
  layer->first = next(frozen_.empty() ? *known_since_ : frozen_.back()->last);
  frozen_.push_back(std::move(layer));
}

DirtyLayers::Changes DirtyLayers::changes_since(EpochId since) const {
  Changes out;
  Lock lock(mutex_);
  out.unknown = !known_since_ || since < *known_since_;
  for (const LayerPtr& layer : frozen_) {
    if (layer->last > since) out.layers.push_back(layer);
  }
  return out;
}

size_t DirtyLayers::frozen() const {
  Lock lock(mutex_);
  return frozen_.size();
}

void DirtyLayers::compact(const std::vector<EpochId>& cursors,
                          const std::vector<EpochId>& boundaries) {
  Lock serial(compact_mutex_);
  drop_before(cursors.empty() ? std::nullopt
                              : std::optional(*std::min_element(cursors.begin(), cursors.end())));
  while (auto pair = mergeable(boundaries)) {
    LayerPtr merged = merge(*pair->first, *pair->second);
    Lock lock(mutex_);
    // Only this function removes layers, so the pair is where it was.
    auto at = std::find(frozen_.begin(), frozen_.end(), pair->first);
    *at = std::move(merged);
    frozen_.erase(at + 1);
  }
  auto spare = std::make_shared<Layer>();
  Lock lock(mutex_);
  spare_ = std::move(spare);
}

void DirtyLayers::drop_before(std::optional<EpochId> oldest) {
  std::vector<LayerPtr> dropped;  // freed outside the lock
  Lock lock(mutex_);
  auto kept = std::find_if(frozen_.begin(), frozen_.end(),
                           [&](const LayerPtr& layer) { return oldest && layer->last > *oldest; });
  if (kept == frozen_.begin()) return;
  known_since_ = (*(kept - 1))->last;
  dropped.assign(frozen_.begin(), kept);
  frozen_.erase(frozen_.begin(), kept);
}

std::optional<std::pair<DirtyLayers::LayerPtr, DirtyLayers::LayerPtr>> DirtyLayers::mergeable(
    const std::vector<EpochId>& boundaries) const {
  Lock lock(mutex_);
  for (size_t i = frozen_.size(); i-- > 1;) {
    const LayerPtr &older = frozen_[i - 1], &newer = frozen_[i];
    if (older->is_checkpoint() || newer->is_checkpoint()) continue;  // the housekeeper merges those
    if (std::find(boundaries.begin(), boundaries.end(), older->last) != boundaries.end()) continue;
    const size_t a = older->files(), b = newer->files();
    // A small layer beside a large one waits until it has grown by others like it.
    const bool cheap = older->all || newer->all || a + b <= kSmallLayer;
    if (cheap || a <= 2 * b) return std::pair(older, newer);
  }
  return std::nullopt;
}

DirtyLayers::LayerPtr DirtyLayers::merge(const Layer& older, const Layer& newer) {
  auto out = std::make_shared<Layer>();
  out->first = older.first;
  out->last = newer.last;
  out->all = older.all || newer.all;
  if (out->all) return out;  // covers more than any list
  for (size_t i = 0; i < kShards; ++i) {
    Layer::Map& to = out->shards_[i];
    to.reserve(std::max(older.shards_[i].size(), newer.shards_[i].size()));
    for (const Layer* from : {&older, &newer}) {
      for (const auto& [id, ranges] : from->shards_[i]) to[id].add(ranges);
    }
  }
  return out;
}

}  // namespace epochfs::fs
