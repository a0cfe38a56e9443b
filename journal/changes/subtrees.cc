#include "journal/changes/subtrees.h"

#include <algorithm>

namespace epochfs::journal {
namespace {

// A mark covers at least an eighth of the changed names. Marks are added until at most a quarter
// is left.
constexpr uint64_t kWorthMarking = 8;
constexpr uint64_t kLeft = 4;
constexpr size_t kMaxDepth = 4096;  // deeper than paths can be named

struct Directory {
  FileId parent;  // {0, 0}: unknown
  FileHandle handle;
  uint64_t own = 0;  // changed names in it
  uint64_t all = 0;  // changed names in it and below
  size_t depth = 0;
};
using Directories = std::unordered_map<FileId, Directory>;

Directories count_names(const std::vector<CheckpointPtr>& checkpoints) {
  Directories out;
  NameKey key;
  NameChange change;
  for (const CheckpointPtr& c : checkpoints) {
    for (Checkpoint::Names names(*c); names.next(key, change);) ++out[key.parent].own;
  }
  return out;
}

// The directory's handle. A checkpoint that lists a name in a directory lists its handle too.
FileHandle handle_of(const std::vector<CheckpointPtr>& checkpoints, const FileId& id) {
  for (auto c = checkpoints.rbegin(); c != checkpoints.rend(); ++c) {
    auto change = (*c)->find(id);
    if (change && change->handle) return change->handle;
  }
  return {};
}

// Finds the parent of each directory, up to the root. Directories that are gone get none.
void find_parents(Directories& directories, const std::vector<CheckpointPtr>& checkpoints,
                  const FileId& root, const Subtrees::ParentOf& parent_of) {
  std::vector<FileId> pending;
  for (auto& [id, d] : directories) {
    d.handle = handle_of(checkpoints, id);
    if (id != root) pending.push_back(id);
  }
  while (!pending.empty()) {
    const FileId id = pending.back();
    pending.pop_back();
    Directory& d = directories[id];
    auto parent = d.handle ? parent_of(d.handle) : std::nullopt;
    if (!parent) continue;
    d.parent = parent->directory;
    auto [at, added] = directories.try_emplace(parent->directory);
    if (added) at->second.handle = parent->handle;
    if (added && parent->directory != root) pending.push_back(parent->directory);
  }
}

// The directories from `id` up to the root, both included. Empty: they do not lead to the root.
std::vector<FileId> way_up(const Directories& directories, FileId id, const FileId& root) {
  std::vector<FileId> way;
  for (; id != root; id = directories.at(id).parent) {
    if (!id || way.size() == kMaxDepth || !directories.count(id)) return {};
    way.push_back(id);
  }
  way.push_back(root);
  return way;
}

}  // namespace

const Subtree* Subtrees::over(const FileId& directory) const {
  auto at = below_.find(directory);
  return at == below_.end() ? nullptr : &marked_[at->second];
}

Subtrees Subtrees::choose(const std::vector<CheckpointPtr>& checkpoints, const FileId& root,
                          const ParentOf& parent_of) {
  Directories directories = count_names(checkpoints);
  find_parents(directories, checkpoints, root, parent_of);
  std::vector<std::pair<FileId, std::vector<FileId>>> ways;
  for (const auto& [id, d] : directories) {
    if (auto way = way_up(directories, id, root); !way.empty()) ways.emplace_back(id, way);
  }
  for (const auto& [id, way] : ways) {
    Directory& d = directories[id];
    d.depth = way.size();
    for (const FileId& up : way) directories[up].all += d.own;
  }
  const uint64_t total = directories[root].all;
  Subtrees out;
  std::vector<FileId> chosen;
  while (directories[root].all > total / kLeft) {
    const std::pair<FileId, std::vector<FileId>>* best = nullptr;
    for (const auto& candidate : ways) {
      const Directory& d = directories[candidate.first];
      const bool worth = candidate.first != root && d.all > 0 && d.all >= total / kWorthMarking;
      if (worth && (!best || d.depth > directories[best->first].depth)) best = &candidate;
    }
    if (!best) break;
    chosen.push_back(best->first);
    const uint64_t freed = directories[best->first].all;
    for (const FileId& up : best->second) directories[up].all -= freed;
  }
  // A later mark may lie above an earlier one. The upper one counts.
  for (const auto& [id, way] : ways) {
    for (auto up = way.rbegin(); up != way.rend(); ++up) {
      auto mark = std::find(chosen.begin(), chosen.end(), *up);
      if (mark == chosen.end()) continue;
      out.below_[id] = size_t(mark - chosen.begin());
      break;
    }
  }
  for (const FileId& id : chosen) out.marked_.push_back({id, directories[id].handle});
  return out;
}

}  // namespace epochfs::journal
