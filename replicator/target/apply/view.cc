#include "replicator/target/apply/view.h"

#include "journal/preimages/attributes.h"

namespace epochfs::replicator {

constexpr size_t kManyNames = 4;

Result<std::optional<StagedHead>> View::announced(FileId id) {
  EPOCHFS_TRY(auto head, index_.staged_head(id));
  if (head && (head->generation != index_.meta().generation || head->forgotten)) head.reset();
  return head;
}

Result<uint32_t> View::mode(FileId id) {
  EPOCHFS_TRY(auto head, announced(id));
  if (head) return head->attributes.mode;
  EPOCHFS_TRY(auto node, index_.node(id));
  if (node) return node->mode;
  return is_root(id) ? 0040000 : 0;
}

Result<bool> View::replaced(FileId id) {
  EPOCHFS_TRY(auto head, announced(id));
  if (!head) return false;
  if (head->incoming) return true;
  EPOCHFS_TRY(auto node, index_.node(id));
  return node && journal::is_directory(node->mode) != journal::is_directory(head->attributes.mode);
}

Result<bool> View::stays(const EntryName& entry, FileId child) {
  EPOCHFS_TRY(auto staged, index_.staged_child(entry));
  if (staged && *staged != child) return false;
  EPOCHFS_TRY(bool other, replaced(child));
  return !other;
}

Result<std::optional<EntryName>> View::first_name(FileId id) {
  EPOCHFS_TRY(auto staged, index_.staged_links(id));
  if (!staged.empty()) return std::move(staged.front());
  EPOCHFS_TRY(auto links, index_.links(id));
  for (EntryName& entry : links) {
    EPOCHFS_TRY(auto override, index_.staged_child(entry));
    if (!override) return std::move(entry);
  }
  return std::nullopt;
}

Result<bool> View::has_name(FileId id) {
  EPOCHFS_TRY(auto name, first_name(id));
  return name.has_value();
}

Result<Fate> View::fate(FileId id) {
  if (auto known = fates_.find(id); known != fates_.end()) return known->second;
  Fate fate;
  EPOCHFS_TRY(bool other, replaced(id));
  EPOCHFS_TRY(auto links, index_.links(id));
  if (!links.empty()) fate.first = links.front();
  for (const EntryName& entry : links) {
    if (other || fate.kept) break;
    EPOCHFS_TRY(bool same, stays(entry, id));
    if (same) fate.kept = entry;
  }
  EPOCHFS_TRY(auto staged, index_.staged_links(id));
  for (const EntryName& entry : staged) {
    EPOCHFS_TRY(FileId now, index_.child(entry));
    if (other || now != id) fate.last = entry;
  }
  fate.survives = !other && (fate.kept || fate.last);
  if (links.size() + staged.size() > kManyNames) fates_[id] = fate;
  return fate;
}

}  // namespace epochfs::replicator
