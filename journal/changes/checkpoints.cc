#include "journal/changes/checkpoints.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "journal/base/directory.h"
#include "journal/changes/fold_epochs.h"
#include "journal/volume/epochs.h"

namespace epochfs::journal {
namespace {

constexpr uint64_t kSmallBytes = 1 << 20;  // up to this sum, merging costs less than two files
// Bytes of records that are folded at once. Bounds the memory of a fold.
constexpr uint64_t kFoldedAtOnce = 64 << 20;

struct Name {
  EpochId first{}, last{};
  std::string name;
};

Result<UniqueFd> open_folder(const Volume& volume) {
  auto folder = open_directory(volume.dir(), kCheckpointsDir);
  if (!folder && folder.error().code == ENOENT) return UniqueFd();
  return folder;
}

// All names in the folder, whether or not they are those of checkpoints.
Result<std::vector<std::string>> list(int dir) {
  std::vector<std::string> out;
  EPOCHFS_DO(for_each_entry(dir, kCheckpointsDir, [&](const char* name) {
    if (name[0] != '.') out.push_back(name);
  }));
  return out;
}

// The chain that ends with the newest checkpoint, judged by the names alone. Where a crash left a
// merged checkpoint beside its parts, the merged one counts.
std::vector<Name> chain_of(const std::vector<std::string>& names) {
  std::vector<Name> all;
  for (const std::string& name : names) {
    Name n;
    n.name = name;
    if (parse_checkpoint_name(name, n.first, n.last)) all.push_back(n);
  }
  std::sort(all.begin(), all.end(), [](const Name& a, const Name& b) {
    return a.first != b.first ? a.first < b.first : a.last > b.last;
  });
  std::vector<Name> chain;
  for (Name& n : all) {
    if (!chain.empty() && n.last <= chain.back().last) continue;
    // Neither adjacent nor covered: here the newer one begins a chain of its own.
    if (!chain.empty() && n.first != next(chain.back().last)) chain.clear();
    chain.push_back(std::move(n));
  }
  return chain;
}

bool is_boundary(const CheckpointPolicy& policy, EpochId epoch) {
  return std::find(policy.boundaries.begin(), policy.boundaries.end(), epoch) !=
         policy.boundaries.end();
}

void make_coarser(FileChange& change, Coarseness coarseness) {
  if (change.data.empty()) return;
  if (coarseness == Coarseness::kExtents) change.data.coarsen(kCoarseGrain);
  if (coarseness == Coarseness::kFiles) {
    change.data.clear();
    change.data.add({0, ByteRange::kEndOfFile});
  }
}

// What a checkpoint need not list any more, because a mark stands for it.
struct Covered {
  std::vector<FileId> files;   // got a name below a mark, and no other name; ascending
  std::vector<Subtree> marks;  // marks that stand for something in it; ascending
};

Covered covered_by(const Subtrees& subtrees, const Checkpoint& checkpoint) {
  Covered out;
  auto mark = [&](const Subtree& subtree) {
    auto at = std::find_if(out.marks.begin(), out.marks.end(), [&](const Subtree& known) {
      return !(known.directory < subtree.directory);
    });
    if (at != out.marks.end() && at->directory == subtree.directory) return;
    out.marks.insert(at, subtree);
  };
  FileId id;
  FileChange file;
  for (Checkpoint::Files files(checkpoint); files.next(id, file);) {
    if (const Subtree* over = subtrees.over(id)) mark(*over);
  }
  NameKey key;
  NameChange change;
  for (Checkpoint::Names names(checkpoint); names.next(key, change);) {
    const Subtree* over = subtrees.over(key.parent);
    if (!over) continue;
    mark(*over);
    if (change.after) out.files.push_back(change.after);
  }
  std::sort(out.files.begin(), out.files.end());
  std::vector<FileId> elsewhere;
  for (Checkpoint::Names names(checkpoint); names.next(key, change);) {
    const bool also = change.after && !subtrees.over(key.parent) &&
                      std::binary_search(out.files.begin(), out.files.end(), change.after);
    if (also) elsewhere.push_back(change.after);
  }
  std::sort(elsewhere.begin(), elsewhere.end());
  std::erase_if(out.files, [&](const FileId& id) {
    return std::binary_search(elsewhere.begin(), elsewhere.end(), id);
  });
  return out;
}

// Reads two ascending inputs side by side. Calls f(key, older, newer); one of the two may be null.
template <typename Input, typename Key, typename Change, typename F>
void join(Input&& older, Input&& newer, F&& f) {
  Key a_key, b_key;
  Change a, b;
  bool has_a = older.next(a_key, a), has_b = newer.next(b_key, b);
  while (has_a || has_b) {
    const bool take_a = has_a && (!has_b || a_key <= b_key);
    const bool take_b = has_b && (!has_a || b_key <= a_key);
    f(take_a ? a_key : b_key, take_a ? &a : nullptr, take_b ? &b : nullptr);
    if (take_a) has_a = older.next(a_key, a);
    if (take_b) has_b = newer.next(b_key, b);
  }
}

// Passes on to the writer what is worth keeping.
class Filter {
 public:
  // oldest: this will be the first checkpoint of the chain.
  Filter(CheckpointWriter& writer, const CheckpointPolicy& policy, const CheckpointInfo& info,
         bool oldest)
      : writer_(writer),
        policy_(policy),
        oldest_(oldest),
        keep_names_(policy.walk_since && info.last > *policy.walk_since) {}

  void add(const FileId& id, FileChange& change) {
    // If it was made without a name (O_TMPFILE), it is recorded anew when it gets one.
    if (change.fresh && !change.whole && change.links <= 0) return;
    if (oldest_ && !change.touched) return;
    make_coarser(change, policy_.coarseness);
    writer_.add(id, change);
  }

  void add(const NameKey& key, const NameChange& change) {
    const bool came_and_went = change.before_known && !change.before && !change.after;
    if (!came_and_went || keep_names_) writer_.add(key, change);
  }

 private:
  CheckpointWriter& writer_;
  const CheckpointPolicy& policy_;
  const bool oldest_, keep_names_;
};

void merge_into(Filter& filter, const Checkpoint& older, const Checkpoint& newer) {
  join<Checkpoint::Files, FileId, FileChange>(Checkpoint::Files(older), Checkpoint::Files(newer),
                                              [&](const FileId& id, FileChange* a, FileChange* b) {
                                                if (a && b) append(*a, *b);
                                                filter.add(id, a ? *a : *b);
                                              });
  join<Checkpoint::Names, NameKey, NameChange>(
      Checkpoint::Names(older), Checkpoint::Names(newer),
      [&](const NameKey& key, NameChange* a, NameChange* b) {
        if (a && b) append(*a, *b);
        filter.add(key, a ? *a : *b);
      });
}

}  // namespace

Result<std::vector<CheckpointPtr>> read_checkpoints(const Volume& volume) {
  EPOCHFS_TRY(UniqueFd dir, open_folder(volume));
  std::vector<CheckpointPtr> out;
  while (dir) {
    EPOCHFS_TRY(auto names, list(dir.get()));
    out.clear();
    bool changed = false;  // one was merged or dropped meanwhile: list again
    for (const Name& n : chain_of(names)) {
      auto checkpoint = Checkpoint::open(dir.get(), n.name, volume.info().lineage);
      changed = !checkpoint && checkpoint.error().code == ENOENT;
      if (changed) break;
      if (!checkpoint) return tl::unexpected(checkpoint.error());
      out.push_back(*std::move(checkpoint));
    }
    if (!changed) break;
  }
  return out;
}

Result<std::vector<std::string>> list_checkpoints(const Volume& volume) {
  EPOCHFS_TRY(UniqueFd dir, open_folder(volume));
  if (!dir) return std::vector<std::string>();
  EPOCHFS_TRY(auto names, list(dir.get()));
  std::erase_if(names, [](const std::string& name) {
    EpochId first, last;
    return !parse_checkpoint_name(name, first, last);
  });
  return names;
}

Result<CheckpointPtr> open_checkpoint(const Volume& volume, const std::string& name) {
  EPOCHFS_TRY(UniqueFd dir, open_folder(volume));
  return Checkpoint::open(dir.get(), name, volume.info().lineage);
}

Result<std::unique_ptr<Checkpoints>> Checkpoints::open(Storage& storage, const Volume& volume,
                                                       std::optional<Error>* damage) {
  if (::mkdirat(volume.dir(), kCheckpointsDir, 0700) != 0 && errno != EEXIST) {
    return fail_errno("make directory checkpoints");
  }
  std::unique_ptr<Checkpoints> self(new Checkpoints(storage, volume));
  EPOCHFS_TRY(self->dir_, open_folder(volume));
  EPOCHFS_TRY(auto names, list(self->dir_.get()));
  std::vector<CheckpointPtr> chain;
  for (const Name& n : chain_of(names)) {
    auto checkpoint = Checkpoint::open(self->dir_.get(), n.name, volume.info().lineage);
    if (!checkpoint && checkpoint.error().status != ExitStatus::kCorrupt) {
      return tl::unexpected(checkpoint.error());
    }
    if (checkpoint) {
      chain.push_back(*std::move(checkpoint));
    } else {
      if (damage) *damage = checkpoint.error();
      chain.clear();
    }
  }
  for (const std::string& name : names) {
    const bool kept = std::any_of(chain.begin(), chain.end(), [&](const auto& c) {
      return checkpoint_name(c->info().first, c->info().last) == name;
    });
    if (!kept) {
      EPOCHFS_DO(storage.remove_file("checkpoint-superfluous", self->dir_.get(), name));
    }
  }
  Lock lock(self->mutex_);
  self->all_ = std::move(chain);
  return self;
}

std::vector<CheckpointPtr> Checkpoints::all() const {
  Lock lock(mutex_);
  return all_;
}

uint64_t Checkpoints::bytes() const {
  Lock lock(mutex_);
  return std::accumulate(all_.begin(), all_.end(), uint64_t{0},
                         [](uint64_t n, const auto& c) { return n + c->bytes(); });
}

Result<void> Checkpoints::extend(EpochId since, EpochId until, const CheckpointPolicy& policy) {
  const auto before = all();
  if (!before.empty()) since = std::max(since, before.back()->info().last);
  if (!before.empty() && since != before.back()->info().last) {
    // Nobody needs the epochs in between, nor those before them.
    EPOCHFS_DO(drop_up_to(before.back()->info().last));
  }
  EPOCHFS_TRY(auto begin, read_epoch(volume_.dir(), since));
  uint64_t from = begin && value(since) > 0 ? value(begin->seal) : 0;
  for (EpochId last = since; last < until;) {
    // Folds as many epochs at once as memory and boundaries allow, and at least one.
    std::optional<SealedEpoch> sealed;
    EpochId end = last;
    do {
      end = next(end);
      EPOCHFS_TRY(sealed, read_epoch(volume_.dir(), end));
      if (!sealed || sealed->epoch != end) {
        return fail(
            fmt::format("make checkpoint of epoch {}: it is not in the manifest", value(end)));
      }
    } while (end < until && !is_boundary(policy, end) &&
             value(sealed->seal) - from < kFoldedAtOnce);
    Fold fold(Fold::Keep::kLinks);
    EPOCHFS_TRY(bool whole, fold_records(volume_, last, end, fold));
    ChangeSet changes = fold.take();
    if (!whole) {
      changes = ChangeSet{};
      changes.gap = true;
      changes.gap_lsn = sealed->seal;
    }
    EPOCHFS_DO(add(next(last), end, sealed->seal, std::move(changes), policy));
    from = value(sealed->seal);
    last = end;
  }
  return {};
}

Result<void> Checkpoints::add(EpochId first, EpochId last, Lsn seal, ChangeSet&& changes,
                              const CheckpointPolicy& policy) {
  const CheckpointInfo info{.lineage = volume_.info().lineage,
                            .first = first,
                            .last = last,
                            .seal = seal,
                            .gap = changes.gap,
                            .gap_lsn = changes.gap_lsn,
                            .records = changes.records};
  EPOCHFS_TRY(auto writer, CheckpointWriter::create(storage_, dir_.get(), info));
  if (!changes.gap) {  // with a gap, no list is worth anything
    const bool oldest = all().empty();
    Filter filter(*writer, policy, info, oldest);
    std::vector<const std::pair<const FileId, FileChange>*> files;
    files.reserve(changes.files.size());
    for (const auto& entry : changes.files) files.push_back(&entry);
    std::sort(files.begin(), files.end(),
              [](const auto* a, const auto* b) { return a->first < b->first; });
    for (const auto* entry : files) {
      FileChange change = entry->second;
      filter.add(entry->first, change);
    }
    for (const auto& [key, change] : changes.names) filter.add(key, change);
  }
  EPOCHFS_DO(writer->finish());
  EPOCHFS_TRY(auto made,
              Checkpoint::open(dir_.get(), checkpoint_name(first, last), volume_.info().lineage));
  Lock lock(mutex_);
  all_.push_back(std::move(made));
  return {};
}

Result<void> Checkpoints::remove(const CheckpointPtr& c) {
  return storage_.remove_file("checkpoint-remove", dir_.get(),
                              checkpoint_name(c->info().first, c->info().last));
}

// The older of two neighbours that are worth merging. Looks at the newest first.
std::optional<size_t> Checkpoints::mergeable(const CheckpointPolicy& policy) const {
  const auto chain = all();
  for (size_t i = chain.size(); i-- > 1;) {
    const Checkpoint &older = *chain[i - 1], &newer = *chain[i];
    if (is_boundary(policy, older.info().last)) continue;
    // A small checkpoint behind a large one waits until merging made it larger.
    const bool cheap =
        older.info().gap || newer.info().gap || older.bytes() + newer.bytes() <= kSmallBytes;
    if (cheap || older.bytes() <= 2 * newer.bytes()) return i - 1;
  }
  return std::nullopt;
}

Result<void> Checkpoints::compact(const CheckpointPolicy& policy) {
  while (auto older = mergeable(policy)) EPOCHFS_DO(merge(*older, policy));
  return {};
}

void Checkpoints::replace(size_t at, CheckpointPtr checkpoint) {
  Lock lock(mutex_);
  all_[at] = std::move(checkpoint);
}

// Merges the checkpoint at this place of the chain with the next one.
Result<void> Checkpoints::merge(size_t at, const CheckpointPolicy& policy) {
  const auto chain = all();
  const CheckpointPtr older = chain[at], newer = chain[at + 1];
  CheckpointInfo info = newer->info();
  info.first = older->info().first;
  info.gap = older->info().gap || newer->info().gap;
  info.gap_lsn = std::max(older->info().gap_lsn, newer->info().gap_lsn);
  info.records += older->info().records;
  EPOCHFS_TRY(auto writer, CheckpointWriter::create(storage_, dir_.get(), info));
  Filter filter(*writer, policy, info, at == 0);
  if (!info.gap) merge_into(filter, *older, *newer);
  EPOCHFS_DO(writer->finish());
  EPOCHFS_TRY(auto merged,
              Checkpoint::open(dir_.get(), checkpoint_name(info.first, info.last), info.lineage));
  {
    Lock lock(mutex_);
    all_[at] = std::move(merged);
    all_.erase(all_.begin() + long(at) + 1);
  }
  EPOCHFS_DO(remove(older));
  return remove(newer);
}

Result<void> Checkpoints::coarsen(const CheckpointPolicy& policy) {
  const auto chain = all();
  for (size_t i = 0; i < chain.size(); ++i) {
    const CheckpointPtr& old = chain[i];
    if (old->info().gap) continue;
    EPOCHFS_TRY(auto writer, CheckpointWriter::create(storage_, dir_.get(), old->info()));
    Filter filter(*writer, policy, old->info(), i == 0);
    for_each_change(*old, [&](const auto& key, auto& change) { filter.add(key, change); });
    EPOCHFS_DO(writer->finish());
    EPOCHFS_TRY(auto made,
                Checkpoint::open(dir_.get(), checkpoint_name(old->info().first, old->info().last),
                                 old->info().lineage));
    replace(i, std::move(made));
  }
  return {};
}

Result<void> Checkpoints::mark(const Subtrees& subtrees, const CheckpointPolicy& policy) {
  const auto chain = all();
  for (size_t i = 0; i < chain.size(); ++i) {
    if (!chain[i]->info().gap) EPOCHFS_DO(mark_one(i, subtrees, policy));
  }
  return {};
}

Result<void> Checkpoints::mark_one(size_t at, const Subtrees& subtrees,
                                   const CheckpointPolicy& policy) {
  const CheckpointPtr old = all()[at];
  const Covered covered = covered_by(subtrees, *old);
  if (covered.marks.empty()) return {};
  EPOCHFS_TRY(auto writer, CheckpointWriter::create(storage_, dir_.get(), old->info()));
  Filter filter(*writer, policy, old->info(), at == 0);
  auto next_mark = covered.marks.begin();
  auto add_marks_up_to = [&](const FileId* id) {  // null: all remaining marks
    for (; next_mark != covered.marks.end() && (!id || next_mark->directory <= *id); ++next_mark) {
      FileChange change;
      if (auto known = old->find(next_mark->directory)) change = *known;
      change.handle = next_mark->handle;
      change.touched = change.subtree = true;
      change.last_data = old->info().seal;
      filter.add(next_mark->directory, change);
    }
  };
  FileId id;
  FileChange file;
  for (Checkpoint::Files files(*old); files.next(id, file);) {
    add_marks_up_to(&id);
    const bool is_mark = next_mark != covered.marks.begin() && (next_mark - 1)->directory == id;
    // An old file stays: it may have other names, which no record mentions.
    const bool below =
        subtrees.over(id) ||
        (file.fresh && std::binary_search(covered.files.begin(), covered.files.end(), id));
    if (!is_mark && !below) filter.add(id, file);
  }
  add_marks_up_to(nullptr);
  NameKey key;
  NameChange name;
  for (Checkpoint::Names names(*old); names.next(key, name);) {
    if (!subtrees.over(key.parent)) filter.add(key, name);
  }
  EPOCHFS_DO(writer->finish());
  const CheckpointInfo& info = old->info();
  EPOCHFS_TRY(auto made,
              Checkpoint::open(dir_.get(), checkpoint_name(info.first, info.last), info.lineage));
  replace(at, std::move(made));
  return {};
}

Result<void> Checkpoints::forget() {
  const auto old = all();
  if (old.empty()) return {};
  CheckpointInfo info = old.back()->info();
  info.first = old.front()->info().first;
  info.gap = true;
  info.gap_lsn = info.seal;
  auto write = [&]() -> Result<CheckpointPtr> {
    EPOCHFS_TRY(auto writer, CheckpointWriter::create(storage_, dir_.get(), info));
    EPOCHFS_DO(writer->finish());
    return Checkpoint::open(dir_.get(), checkpoint_name(info.first, info.last), info.lineage);
  };
  auto unknown = write();
  {
    Lock lock(mutex_);
    all_.clear();
    if (unknown) all_.push_back(*unknown);
  }
  for (const CheckpointPtr& c : old) {
    const bool replaced = c->info().first == info.first && c->info().last == info.last;
    if (!replaced || !unknown) EPOCHFS_DO(remove(c));
  }
  return {};
}

Result<void> Checkpoints::drop_up_to(EpochId oldest) {
  for (const CheckpointPtr& c : all()) {
    if (c->info().last > oldest) break;
    EPOCHFS_DO(remove(c));
    Lock lock(mutex_);
    all_.erase(all_.begin());
  }
  return {};
}

}  // namespace epochfs::journal
