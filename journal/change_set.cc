#include "journal/change_set.h"

#include <linux/fs.h>  // RENAME_EXCHANGE

namespace epochfs {

void Fold::set_name(const FileId& parent, std::string_view name, const FileId& before,
                    const FileId& after, bool before_known) {
  auto [at, inserted] = set_.names.try_emplace(NameKey{parent, std::string(name)},
                                               NameChange{before_known, before, after});
  if (!inserted) at->second.after = after;
}

FileChange& Fold::touch(const Record& r) {
  FileChange& change = set_.files[r.file];
  if (r.handle) change.handle = r.handle;
  return change;
}

void Fold::touch_parent(const FileId& parent, const FileHandle& handle) {
  FileChange& change = set_.files[parent];
  if (handle) change.handle = handle;
}

// A file that did not exist before. An older one of the same identity (created
// and removed within one tick of the clock) is forgotten.
void Fold::appear(const Record& r) {
  FileChange& change = set_.files[r.file] = FileChange{};
  change.handle = r.handle;
  change.fresh = true;
  change.data.add({0, ByteRange::kEndOfFile});
  change.last_data = r.lsn;
}

void Fold::add(const Record& r) {
  constexpr FileId none;
  switch (r.type) {
    case RecordType::kPadding:
    case RecordType::kSeal:
      return;
    case RecordType::kGap:
      set_.gap = true;
      set_.gap_lsn = r.lsn;
      return;
    case RecordType::kTemporary:
      appear(r);
      break;
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
      change.last_data = r.lsn;
      break;
    }
    case RecordType::kSetAttributes:
    case RecordType::kSetXattr:
    case RecordType::kRemoveXattr:
      touch(r);
      break;
    case RecordType::kUncertainName: {
      set_name(r.parent, r.name, none, r.file, false);
      // What was known of the name's past holds no longer: nothing may cancel.
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
  std::unordered_map<FileId, bool> named;  // fresh files that have a name in the end
  for (const auto& [key, change] : set_.names) {
    if (change.after) named[change.after] = true;
  }
  // A fresh file without a name is gone, or was never reachable. One that is
  // uncertain may have names that the records do not tell.
  std::erase_if(set_.files, [&](const auto& entry) {
    return entry.second.fresh && !entry.second.whole && !named.count(entry.first);
  });
  std::erase_if(set_.names, [&](const auto& entry) {
    const NameChange& change = entry.second;
    if (cancel == Cancel::kKeep) return false;
    if (!change.before_known || change.before != change.after) return false;
    auto file = set_.files.find(change.after);
    bool another_file = file != set_.files.end() && file->second.fresh;
    return !another_file;
  });
  ChangeSet out = std::move(set_);
  set_ = ChangeSet{};
  return out;
}

}  // namespace epochfs
