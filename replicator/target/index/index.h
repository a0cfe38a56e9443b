// Index: what does the target hold, and what is staged to replace it? A few tables in a database
// beside the target directory (tables.h):
//
//   meta           relationship, cursor, the stage's plan, the commit mark
//   nodes          file -> what the target holds of it
//   names          parent, name -> file
//   links          file -> its pairs of parent and name
//   staged_nodes   file -> what it will be, and how much of it has been received
//   staged_names   parent, name -> file, or none: the name will go
//   staged_links   file -> the staged names that lead to it
//   staged_ranges  file, offset -> bytes that changed
//   listed         directories whose names are all staged
//
// `nodes`, `names` and `links` change when an epoch has been applied, in one transaction with
// the cursor. All other tables prepare for that.
//
// Everything happens in one long transaction. commit() makes it durable and begins the next one.
// The destructor discards what was not committed. The caller makes staged files durable before
// it commits a claim about them. The index never touches the target directory. One thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "replicator/target/index/node.h"

namespace epochfs::replicator {

class Tables;

constexpr uint32_t kIndexFormat = 1;
// Address space, not storage. It doubles when half of it is used.
constexpr size_t kIndexMapBytes = size_t(64) << 30;

enum class ApplyPhase : uint32_t {
  kNone,          // the stage can still be discarded
  kCommitted,     // the epoch will be applied, and the source is no longer needed
  kNamesVacated,  // every name that changes is free
};

// The only record of `meta`. It has a fixed size and is copied as it lies in memory.
struct IndexMeta {
  uint32_t format = kIndexFormat;
  ApplyPhase phase = ApplyPhase::kNone;
  std::array<char, 16> relationship{};  // 12 hex digits
  Uuid lineage;
  FileId target_root;  // st_ino and birth time of the target directory
  FileId source_root;  // identity of the source directory; {0, 0} before the first epoch

  uint64_t cursor = 0;
  uint64_t state_hash = 0;
  uint64_t barrier_ns = 0;

  // The stage.
  uint64_t walk_since = 0;
  uint32_t generation = 0;  // grows with each transfer
  bool staging = false;     // something may be staged
  bool full = false;        // by a full transfer
  bool owned = false;       // an epoch was committed once: what the directory holds is ours
  bool pristine = false;    // part of the commit mark: the directory was empty before

  // The commit mark: what the target will hold.
  uint64_t mark_epoch = 0;
  uint64_t mark_hash = 0;
  uint64_t mark_barrier_ns = 0;
  FileId mark_root;
};

class Index {
 public:
  // Opens the index in directory `dir`, or makes it. map_bytes: address space at first. Errors:
  // a newer format, damage (kCorrupt).
  static Result<std::unique_ptr<Index>> open(int dir, size_t map_bytes = kIndexMapBytes);
  ~Index();
  Index(const Index&) = delete;

  // Returns when all changes are durable. On an error they are gone, and failed() is true.
  Result<void> commit();
  // A change or a commit failed: call roll_back(). All state that was derived since the last
  // commit is void.
  bool failed() const;
  Result<void> roll_back();
  // crowded: the map may have too little room for `puts` more changes. make_room commits then;
  // call it only where a commit does no harm.
  bool crowded(size_t puts = 0) const;
  Result<void> make_room(size_t puts);

  const IndexMeta& meta() const { return meta_; }
  Result<void> put_meta(const IndexMeta& meta);
  // The file was announced by the transfer that is under way.
  bool is_current(const StagedHead& node) const { return node.generation == meta_.generation; }

  // What the target holds.
  Result<std::optional<IndexedNode>> node(FileId id);
  Result<void> put_node(FileId id, const IndexedNode& node);
  Result<void> remove_node(FileId id);
  Result<FileId> child(const EntryName& entry);  // {0, 0}: none
  Result<std::vector<EntryName>> links(FileId id);
  Result<bool> has_links(FileId id);
  Result<void> put_name(const EntryName& entry, FileId child);  // {0, 0} removes it
  Result<void> clear_tree();
  Result<size_t> count_names();

  // What is staged.
  Result<std::optional<StagedHead>> staged_head(FileId id);
  Result<std::optional<StagedNode>> staged(FileId id);
  Result<void> put_staged(FileId id, const StagedNode& node);
  Result<void> remove_staged(FileId id);
  Result<size_t> count_staged();
  Result<std::optional<FileId>> staged_child(const EntryName& entry);  // {0, 0}: it will go
  Result<std::vector<EntryName>> staged_links(FileId id);
  Result<void> put_staged_name(const EntryName& entry, FileId child);
  Result<void> remove_staged_name(const EntryName& entry);
  Result<size_t> count_staged_names();
  Result<void> put_range(FileId id, uint64_t offset, const StagedRange& range);
  Result<void> remove_ranges(FileId id);
  Result<void> put_listed(FileId directory);
  Result<bool> listed(FileId directory);
  Result<void> clear_staged_names();  // staged_names, staged_links, listed
  Result<void> clear_stage();         // everything staged

  // Calls f for each entry, in order of keys. f may change any table; entries that it adds may
  // be visited or not. An error of f ends the scan and is returned.
  template <typename... A>
  using Each = std::function<Result<void>(A...)>;
  Result<void> for_each_child(FileId parent, const Each<const EntryName&, FileId>& f);
  Result<void> for_each_node(const Each<FileId, const IndexedNode&>& f);
  Result<void> for_each_staged(const Each<FileId, StagedNode&>& f);
  Result<void> for_each_staged_name(const Each<const EntryName&, FileId>& f);
  Result<void> for_each_staged_child(FileId parent, const Each<const EntryName&, FileId>& f);
  Result<void> for_each_range(FileId id, const Each<uint64_t, const StagedRange&>& f);
  Result<void> for_each_listed(const Each<FileId>& f);

 private:
  explicit Index(std::unique_ptr<Tables> tables);
  Result<void> read_meta();
  Result<void> reread_after(Result<void> outcome);

  std::unique_ptr<Tables> tables_;
  IndexMeta meta_;
};

}  // namespace epochfs::replicator
