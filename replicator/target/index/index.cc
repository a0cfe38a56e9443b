#include "replicator/target/index/index.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/base/unix.h"
#include "replicator/target/index/tables.h"

namespace epochfs::replicator {
namespace {

constexpr std::string_view kMetaKey = "meta";

// Keys are big-endian, so that files sort by inode number, and the names of one directory stand
// together.
class Key {
 public:
  explicit Key(FileId id) { add(id.inode), add(id.birth_ns); }
  Key(FileId id, uint64_t offset) : Key(id) { add(offset); }
  explicit Key(const EntryName& entry) : Key(entry.parent) {
    EPOCHFS_CHECK(entry.name.size() <= kMaxNameBytes);
    std::memcpy(bytes_.data() + size_, entry.name.data(), entry.name.size());
    size_ += entry.name.size();
  }
  operator std::string_view() const { return {bytes_.data(), size_}; }

 private:
  void add(uint64_t v) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes_[size_++] = char(v >> shift);
  }

  std::array<char, 16 + kMaxNameBytes> bytes_;
  size_t size_ = 0;
};

uint64_t number_at(std::string_view bytes, size_t at) {
  uint64_t v = 0;
  for (size_t i = 0; i < 8; ++i) v = v << 8 | uint8_t(bytes[at + i]);
  return v;
}

FileId file_at(std::string_view bytes) {
  EPOCHFS_CHECK(bytes.size() >= 16);
  return {number_at(bytes, 0), number_at(bytes, 8)};
}

EntryName entry_at(std::string_view bytes) {
  return {file_at(bytes), std::string(bytes.substr(16))};
}

Result<std::vector<EntryName>> all_links(Tables& tables, Tables::Table table, FileId id) {
  std::vector<EntryName> out;
  EPOCHFS_DO(tables.for_each_value(
      table, Key(id), [&](std::string_view value) { out.push_back(entry_at(value)); }));
  return out;
}

Result<void> change_link(Tables& tables, Tables::Table table, FileId id, std::string_view entry,
                         bool there) {
  return there ? tables.put(table, Key(id), entry) : tables.remove(table, Key(id), &entry);
}

}  // namespace

Index::Index(std::unique_ptr<Tables> tables) : tables_(std::move(tables)) {}

Index::~Index() = default;

Result<std::unique_ptr<Index>> Index::open(int dir, size_t map_bytes) {
  static_assert(std::has_unique_object_representations_v<IndexMeta>);
  EPOCHFS_TRY(auto tables, Tables::open(dir, map_bytes));
  std::unique_ptr<Index> index(new Index(std::move(tables)));
  EPOCHFS_DO(index->read_meta());
  return index;
}

Result<void> Index::commit() { return reread_after(tables_->commit()); }

bool Index::failed() const { return tables_->failed(); }

Result<void> Index::roll_back() {
  EPOCHFS_DO(tables_->roll_back());
  return read_meta();
}

bool Index::crowded(size_t puts) const { return tables_->crowded(puts); }

Result<void> Index::make_room(size_t puts) { return reread_after(tables_->make_room(puts)); }

// A failed transaction has lost its changes of the meta record, too.
Result<void> Index::reread_after(Result<void> outcome) {
  if (!outcome) (void)read_meta();
  return outcome;
}

Result<void> Index::read_meta() {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kMeta, kMetaKey));
  meta_ = IndexMeta{};
  if (!bytes) return {};
  uint32_t format = 0;
  std::memcpy(&format, bytes->data(), std::min(bytes->size(), sizeof format));
  if (format > kIndexFormat) {
    return fail(
        fmt::format("open the target's index: format {} is newer than this program", format));
  }
  if (bytes->size() != sizeof meta_) {
    return fail("open the target's index: its first record is damaged", 0, ExitStatus::kCorrupt);
  }
  std::memcpy(static_cast<void*>(&meta_), bytes->data(), sizeof meta_);
  return {};
}

Result<void> Index::put_meta(const IndexMeta& meta) {
  EPOCHFS_DO(
      tables_->put(Tables::kMeta, kMetaKey, {reinterpret_cast<const char*>(&meta), sizeof meta}));
  meta_ = meta;
  return {};
}

// ---- what the target holds ----

Result<std::optional<IndexedNode>> Index::node(FileId id) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kNodes, Key(id)));
  if (!bytes) return std::nullopt;
  EPOCHFS_TRY(auto node, decode_indexed(*bytes));
  return node;
}

Result<void> Index::put_node(FileId id, const IndexedNode& node) {
  return tables_->put(Tables::kNodes, Key(id), encode_indexed(node));
}

Result<void> Index::remove_node(FileId id) { return tables_->remove(Tables::kNodes, Key(id)); }

Result<FileId> Index::child(const EntryName& entry) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kNames, Key(entry)));
  return bytes ? file_at(*bytes) : FileId{};
}

Result<std::vector<EntryName>> Index::links(FileId id) {
  return all_links(*tables_, Tables::kLinks, id);
}

Result<bool> Index::has_links(FileId id) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kLinks, Key(id)));
  return bytes.has_value();
}

Result<void> Index::put_name(const EntryName& entry, FileId child_id) {
  EPOCHFS_TRY(FileId old, child(entry));
  if (old == child_id) return {};
  const Key key(entry);
  if (old) EPOCHFS_DO(change_link(*tables_, Tables::kLinks, old, key, false));
  if (!child_id) return tables_->remove(Tables::kNames, key);
  EPOCHFS_DO(tables_->put(Tables::kNames, key, Key(child_id)));
  return change_link(*tables_, Tables::kLinks, child_id, key, true);
}

Result<void> Index::clear_tree() {
  for (Tables::Table t : {Tables::kNodes, Tables::kNames, Tables::kLinks})
    EPOCHFS_DO(tables_->empty(t));
  return {};
}

Result<size_t> Index::count_names() { return tables_->count(Tables::kNames); }

// ---- what is staged ----

Result<std::optional<StagedHead>> Index::staged_head(FileId id) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kStagedNodes, Key(id)));
  if (!bytes) return std::nullopt;
  EPOCHFS_TRY(auto head, decode_staged_head(*bytes));
  return head;
}

Result<std::optional<StagedNode>> Index::staged(FileId id) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kStagedNodes, Key(id)));
  if (!bytes) return std::nullopt;
  EPOCHFS_TRY(auto node, decode_staged(*bytes));
  return node;
}

Result<void> Index::put_staged(FileId id, const StagedNode& node) {
  return tables_->put(Tables::kStagedNodes, Key(id), encode_staged(node));
}

Result<void> Index::remove_staged(FileId id) {
  return tables_->remove(Tables::kStagedNodes, Key(id));
}

Result<size_t> Index::count_staged() { return tables_->count(Tables::kStagedNodes); }

Result<std::optional<FileId>> Index::staged_child(const EntryName& entry) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kStagedNames, Key(entry)));
  if (!bytes) return std::nullopt;
  return file_at(*bytes);
}

Result<std::vector<EntryName>> Index::staged_links(FileId id) {
  return all_links(*tables_, Tables::kStagedLinks, id);
}

Result<void> Index::put_staged_name(const EntryName& entry, FileId child_id) {
  EPOCHFS_TRY(auto old, staged_child(entry));
  if (old == child_id) return {};
  const Key key(entry);
  if (old && *old) EPOCHFS_DO(change_link(*tables_, Tables::kStagedLinks, *old, key, false));
  EPOCHFS_DO(tables_->put(Tables::kStagedNames, key, Key(child_id)));
  return child_id ? change_link(*tables_, Tables::kStagedLinks, child_id, key, true)
                  : Result<void>{};
}

Result<void> Index::remove_staged_name(const EntryName& entry) {
  EPOCHFS_DO(put_staged_name(entry, {}));
  return tables_->remove(Tables::kStagedNames, Key(entry));
}

Result<size_t> Index::count_staged_names() { return tables_->count(Tables::kStagedNames); }

Result<void> Index::put_range(FileId id, uint64_t offset, const StagedRange& range) {
  return tables_->put(Tables::kStagedRanges, Key(id, offset), encode_range(range));
}

Result<void> Index::remove_ranges(FileId id) {
  return tables_->scan(Tables::kStagedRanges, Key(id), [&](std::string_view key, std::string_view) {
    return tables_->remove(Tables::kStagedRanges, key);
  });
}

Result<void> Index::put_listed(FileId directory) {
  return tables_->put(Tables::kListed, Key(directory), {});
}

Result<bool> Index::listed(FileId directory) {
  EPOCHFS_TRY(auto bytes, tables_->get(Tables::kListed, Key(directory)));
  return bytes.has_value();
}

Result<void> Index::clear_staged_names() {
  for (Tables::Table t : {Tables::kStagedNames, Tables::kStagedLinks, Tables::kListed})
    EPOCHFS_DO(tables_->empty(t));
  return {};
}

Result<void> Index::clear_stage() {
  for (Tables::Table t : {Tables::kStagedNodes, Tables::kStagedRanges})
    EPOCHFS_DO(tables_->empty(t));
  return clear_staged_names();
}

// ---- scans ----

Result<void> Index::for_each_child(FileId parent, const Each<const EntryName&, FileId>& f) {
  return tables_->scan(Tables::kNames, Key(parent),
                       [&](std::string_view key, std::string_view value) {
                         return f(entry_at(key), file_at(value));
                       });
}

Result<void> Index::for_each_node(const Each<FileId, const IndexedNode&>& f) {
  return tables_->scan(Tables::kNodes, {},
                       [&](std::string_view key, std::string_view value) -> Result<void> {
                         EPOCHFS_TRY(auto node, decode_indexed(value));
                         return f(file_at(key), node);
                       });
}

Result<void> Index::for_each_staged(const Each<FileId, StagedNode&>& f) {
  return tables_->scan(Tables::kStagedNodes, {},
                       [&](std::string_view key, std::string_view value) -> Result<void> {
                         EPOCHFS_TRY(auto node, decode_staged(value));
                         return f(file_at(key), node);
                       });
}

Result<void> Index::for_each_staged_name(const Each<const EntryName&, FileId>& f) {
  return tables_->scan(Tables::kStagedNames, {}, [&](std::string_view key, std::string_view value) {
    return f(entry_at(key), file_at(value));
  });
}

Result<void> Index::for_each_staged_child(FileId parent, const Each<const EntryName&, FileId>& f) {
  return tables_->scan(Tables::kStagedNames, Key(parent),
                       [&](std::string_view key, std::string_view value) {
                         return f(entry_at(key), file_at(value));
                       });
}

Result<void> Index::for_each_range(FileId id, const Each<uint64_t, const StagedRange&>& f) {
  return tables_->scan(Tables::kStagedRanges, Key(id),
                       [&](std::string_view key, std::string_view value) -> Result<void> {
                         EPOCHFS_TRY(auto range, decode_range(value));
                         return f(number_at(key, 16), range);
                       });
}

Result<void> Index::for_each_listed(const Each<FileId>& f) {
  return tables_->scan(Tables::kListed, {},
                       [&](std::string_view key, std::string_view) { return f(file_at(key)); });
}

}  // namespace epochfs::replicator
