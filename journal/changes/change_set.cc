#include "journal/changes/change_set.h"

#include <linux/fs.h>  // RENAME_EXCHANGE

#include <algorithm>

namespace epochfs::journal {

void append(FileChange& older, const FileChange& newer) {
  // A new file got the same identity, so the older file is gone.
  if (newer.fresh) {
    older = newer;
    return;
  }
  if (newer.handle) older.handle = newer.handle;
  older.whole |= newer.whole;
  older.touched |= newer.touched;
  older.subtree |= newer.subtree;
  older.links += newer.links;
  older.data.add(newer.data);
  older.data.limit_to(kMaxRangesOfFile);
  older.last_data = std::max(older.last_data, newer.last_data);
}

void append(NameChange& older, const NameChange& newer) {
  older.before_known &= newer.before_known;
  older.after = newer.after;
}

void Fold::add(const FileId& id, const FileChange& newer) {
  if (keep_ == Keep::kChanges && !newer.touched) return;
  set_.subtrees |= newer.subtree;
  auto [at, inserted] = set_.files.try_emplace(id, newer);
  if (!inserted) append(at->second, newer);
}

void Fold::add(const NameKey& key, const NameChange& newer) {
  auto [at, inserted] = set_.names.try_emplace(key, newer);
  if (!inserted) append(at->second, newer);
}

void Fold::add_gap(Lsn at) {
  set_.gap = true;
  set_.gap_lsn = at;
}

void Fold::link(const FileId& id, int by) {
  if (keep_ != Keep::kLinks || !id) return;
  set_.files[id].links += by;
}

void Fold::set_name(const FileId& parent, std::string_view name, const FileId& before,
                    const FileId& after, bool before_known) {
  auto [at, inserted] = set_.names.try_emplace(NameKey{parent, std::string(name)},
                                               NameChange{before_known, before, after});
  if (!inserted) at->second.after = after;
  link(before, -1);
  link(after, +1);
}

FileChange& Fold::touch(const Record& r) {
  FileChange& change = set_.files[r.file];
  change.touched = true;
  if (r.handle) change.handle = r.handle;
  return change;
}

void Fold::touch_parent(const FileId& parent, const FileHandle& handle) {
  FileChange& change = set_.files[parent];
  change.touched = true;
  if (handle) change.handle = handle;
}

// The file did not exist before. An older file with the same identity (created and removed within
// one tick of the clock) is forgotten.
void Fold::appear(const Record& r) {
  FileChange& change = set_.files[r.file] = FileChange{};
  change.handle = r.handle;
  change.touched = true;
  change.fresh = true;
  change.data.add({0, ByteRange::kEndOfFile});
  change.last_data = r.lsn;
}

void Fold::add(const Record& r) {
  constexpr FileId none;
  switch (r.type) {
    case RecordType::kPadding:
    case RecordType::kSeal: return;
    case RecordType::kGap: return add_gap(r.lsn);
    case RecordType::kTemporary: appear(r); break;
    case RecordType::kCreate:
    case RecordType::kMakeDirectory:
    case RecordType::kMakeNode:
    case RecordType::kSymlink:
      appear(r);
      set_name(r.parent, r.name, none, r.file);
      touch_parent(r.parent, r.parent_handle);
      break;
    case RecordType::kLink:
      touch(r);
      set_name(r.parent, r.name, none, r.file);
      touch_parent(r.parent, r.parent_handle);
      break;
    case RecordType::kUnlink:
    case RecordType::kRemoveDirectory:
      set_name(r.parent, r.name, r.file, none);
      touch_parent(r.parent, r.parent_handle);
      break;
    case RecordType::kRename:
      touch(r);
      if (r.other == r.file) break;  // two names of one file: rename(2) leaves both
      set_name(r.parent, r.name, r.file, r.mode & RENAME_EXCHANGE ? r.other : none);
      set_name(r.parent2, r.name2, r.other, r.file);
      touch_parent(r.parent, r.parent_handle);
      touch_parent(r.parent2, r.parent2_handle);
      break;
    case RecordType::kWrite:
    case RecordType::kTruncate:
    case RecordType::kAllocate: {
      FileChange& change = touch(r);
      change.data.add(r.range);
      change.data.limit_to(kMaxRangesOfFile);
      change.last_data = r.lsn;
      break;
    }
    case RecordType::kSetAttributes:
    case RecordType::kSetXattr:
    case RecordType::kRemoveXattr: touch(r); break;
    case RecordType::kUncertainName: {
      set_name(r.parent, r.name, none, r.file, false);
      // Nothing is known about the name's past any more, so it must not cancel out.
      set_.names[NameKey{r.parent, std::string(r.name)}].before_known = false;
      touch_parent(r.parent, r.parent_handle);
      if (r.file) {
        FileChange& change = touch(r);
        change.whole = true;
        change.last_data = r.lsn;
      }
      break;
    }
  }
  ++set_.records;
}

ChangeSet Fold::finish(Cancel cancel) {
  std::vector<FileId> named;  // fresh files that have a name at the end
  for (const auto& [key, change] : set_.names) {
    if (!change.after) continue;
    auto file = set_.files.find(change.after);
    if (file != set_.files.end() && file->second.fresh) named.push_back(change.after);
  }
  std::sort(named.begin(), named.end());
  // A fresh file without a name is gone, or was never reachable. If it is uncertain (`whole`), it
  // may have names that no record mentions.
  std::erase_if(set_.files, [&](const auto& entry) {
    return entry.second.fresh && !entry.second.whole &&
           !std::binary_search(named.begin(), named.end(), entry.first);
  });
  std::erase_if(set_.names, [&](const auto& entry) {
    const NameChange& change = entry.second;
    if (cancel == Cancel::kKeep) return false;
    if (!change.before_known || change.before != change.after) return false;
    auto file = set_.files.find(change.after);
    bool another_file = file != set_.files.end() && file->second.fresh;
    return !another_file;
  });
  return take();
}

ChangeSet Fold::take() {
  ChangeSet out = std::move(set_);
  set_ = ChangeSet{};
  return out;
}

}  // namespace epochfs::journal
