#include "replicator/target/index/index.h"

#include <fmt/format.h>
#include <lmdb.h>

#include <algorithm>

#include "journal/base/unix.h"

namespace epochfs::replicator {
namespace {

constexpr const char* kTableNames[] = {
    "meta",         "nodes",        "names",         "links",  "staged_nodes",
    "staged_names", "staged_links", "staged_ranges", "listed",
};
constexpr std::string_view kMetaKey = "meta";

// A change copies a leaf page at worst, and now and then splits one.
constexpr size_t kPagesAPut = 2;
constexpr size_t kScanBatchBytes = 256 << 10;

tl::unexpected<Error> index_error(const char* verb, int code) {
  bool damaged = code == MDB_CORRUPTED || code == MDB_PAGE_NOTFOUND || code == MDB_INVALID ||
                 code == MDB_VERSION_MISMATCH;
  auto status = damaged ? ExitStatus::kCorrupt : ExitStatus::kFailed;
  if (code > 0) return fail(fmt::format("{} the target's index", verb), code, status);
  return fail(fmt::format("{} the target's index: {}", verb, mdb_strerror(code)), 0, status);
}

MDB_val val(std::string_view s) { return {s.size(), const_cast<char*>(s.data())}; }
std::string_view view(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }

// Keys are big-endian, so that files come in order of their inode numbers, and
// the names of one directory together.
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

struct CursorCloser {
  void operator()(MDB_cursor* c) const { mdb_cursor_close(c); }
};
using Cursor = std::unique_ptr<MDB_cursor, CursorCloser>;

}  // namespace

Result<std::unique_ptr<Index>> Index::open(int dir, size_t map_bytes) {
  static_assert(std::has_unique_object_representations_v<IndexMeta>);
  std::unique_ptr<Index> index(new Index);
  if (int code = mdb_env_create(&index->env_)) return index_error("open", code);
  mdb_env_set_maxdbs(index->env_, kTables);
  // The stage folder's lock keeps other processes out; LMDB needs none of its own.
  if (int code = mdb_env_open(index->env_, proc_path(dir).c_str(), MDB_NOLOCK, 0600)) {
    return index_error("open", code);
  }
  index->map_bytes_ = map_bytes;
  if (int code = mdb_env_set_mapsize(index->env_, map_bytes)) return index_error("map", code);
  MDB_stat stat;
  if (int code = mdb_env_stat(index->env_, &stat)) return index_error("open", code);
  index->page_bytes_ = stat.ms_psize;
  EPOCHFS_DO(index->begin(0));
  for (int i = 0; i < kTables; ++i) {
    unsigned flags = MDB_CREATE | (i == kLinks || i == kStagedLinks ? MDB_DUPSORT : 0);
    if (int code = mdb_dbi_open(index->txn_, kTableNames[i], flags, &index->tables_[i])) {
      return index_error("open", code);
    }
  }
  // Handles that a transaction opened are closed if it does not commit.
  EPOCHFS_DO(index->commit());
  EPOCHFS_DO(index->read_meta());
  return index;
}

Index::~Index() {
  if (txn_) mdb_txn_abort(txn_);
  if (env_) mdb_env_close(env_);
}

Result<void> Index::begin(size_t puts) {
  MDB_envinfo info;
  mdb_env_info(env_, &info);
  used_at_begin_ = (info.me_last_pgno + 1) * page_bytes_;
  const size_t wanted = 2 * (used_at_begin_ + puts * kPagesAPut * page_bytes_);
  if (wanted > map_bytes_ || info.me_mapsize < map_bytes_) {
    while (map_bytes_ < wanted) map_bytes_ *= 2;
    if (int code = mdb_env_set_mapsize(env_, map_bytes_)) return index_error("enlarge", code);
  }
  estimate_ = 0;
  if (int code = mdb_txn_begin(env_, nullptr, 0, &txn_)) return index_error("write", code);
  return {};
}

bool Index::crowded(size_t puts) const {
  return used_at_begin_ + estimate_ + puts * kPagesAPut * page_bytes_ > map_bytes_ / 4 * 3;
}

Result<void> Index::make_room(size_t puts) {
  if (!crowded(puts)) return {};
  EPOCHFS_DO(commit());
  if (!crowded(puts)) return {};
  mdb_txn_abort(std::exchange(txn_, nullptr));
  return begin(puts);
}

Result<void> Index::commit() {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  int code = mdb_txn_commit(std::exchange(txn_, nullptr));
  if (code == 0) return begin(0);
  failed_ = true;
  EPOCHFS_DO(begin(0));
  EPOCHFS_DO(read_meta());
  return index_error("write", code);
}

Result<void> Index::roll_back() {
  if (txn_) mdb_txn_abort(std::exchange(txn_, nullptr));
  EPOCHFS_DO(begin(0));
  EPOCHFS_DO(read_meta());
  failed_ = false;
  return {};
}

Result<void> Index::read_meta() {
  EPOCHFS_TRY(auto bytes, get(kMeta, kMetaKey));
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
  EPOCHFS_DO(put(kMeta, kMetaKey, {reinterpret_cast<const char*>(&meta), sizeof meta}));
  meta_ = meta;
  return {};
}

// ---- LMDB calls ----

Result<std::optional<std::string_view>> Index::get(Table table, std::string_view key) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  MDB_val k = val(key), v;
  int code = mdb_get(txn_, tables_[table], &k, &v);
  if (code == MDB_NOTFOUND) return std::nullopt;
  if (code != 0) return index_error("read", code);
  return view(v);
}

Result<void> Index::put(Table table, std::string_view key, std::string_view value) {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  MDB_val k = val(key), v = val(value);
  estimate_ += kPagesAPut * page_bytes_ + 2 * value.size();
  int code = mdb_put(txn_, tables_[table], &k, &v, 0);
  if (code == 0) return {};
  failed_ = true;
  return index_error("write", code);
}

Result<void> Index::remove(Table table, std::string_view key, const std::string_view* value) {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  MDB_val k = val(key), v = val(value ? *value : std::string_view());
  estimate_ += kPagesAPut * page_bytes_;
  int code = mdb_del(txn_, tables_[table], &k, value ? &v : nullptr);
  if (code == 0 || code == MDB_NOTFOUND) return {};
  failed_ = true;
  return index_error("write", code);
}

Result<void> Index::empty(Table table) {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  int code = mdb_drop(txn_, tables_[table], 0);
  if (code == 0) return {};
  failed_ = true;
  return index_error("write", code);
}

Result<size_t> Index::count(Table table) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  MDB_stat stat;
  if (int code = mdb_stat(txn_, tables_[table], &stat)) return index_error("read", code);
  return stat.ms_entries;
}

// Copies batches of entries before it calls f, so that f may change the table.
Result<void> Index::scan(Table table, std::string_view prefix,
                         const Each<std::string_view, std::string_view>& f) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  struct Place {
    size_t key, value, end;
  };
  std::string last(prefix), bytes;
  std::vector<Place> batch;
  for (bool first = true, more = true; more; first = false) {
    bytes.clear();
    batch.clear();
    {
      MDB_cursor* raw;
      if (int code = mdb_cursor_open(txn_, tables_[table], &raw)) return index_error("read", code);
      Cursor cursor(raw);
      MDB_val k = val(last), v;
      MDB_cursor_op op = last.empty() ? MDB_FIRST : MDB_SET_RANGE;
      for (more = false;; op = MDB_NEXT) {
        int code = mdb_cursor_get(cursor.get(), &k, &v, op);
        if (code == MDB_NOTFOUND) break;
        if (code != 0) return index_error("read", code);
        if (view(k).substr(0, prefix.size()) != prefix) break;
        if (!first && view(k) == last) continue;
        if (bytes.size() >= kScanBatchBytes) {
          more = true;
          break;
        }
        Place place{.key = bytes.size()};
        bytes.append(view(k));
        place.value = bytes.size();
        bytes.append(view(v));
        place.end = bytes.size();
        batch.push_back(place);
      }
    }
    std::string_view all = bytes;
    for (const Place& p : batch) {
      EPOCHFS_DO(f(all.substr(p.key, p.value - p.key), all.substr(p.value, p.end - p.value)));
    }
    if (more) last = all.substr(batch.back().key, batch.back().value - batch.back().key);
  }
  return {};
}

Result<std::vector<EntryName>> Index::all_links(Table table, FileId id) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  std::vector<EntryName> out;
  MDB_cursor* raw;
  if (int code = mdb_cursor_open(txn_, tables_[table], &raw)) return index_error("read", code);
  Cursor cursor(raw);
  Key key(id);
  MDB_val k = val(key), v;
  for (auto op = MDB_SET;; op = MDB_NEXT_DUP) {
    int code = mdb_cursor_get(cursor.get(), &k, &v, op);
    if (code == MDB_NOTFOUND) return out;
    if (code != 0) return index_error("read", code);
    out.push_back(entry_at(view(v)));
  }
}

Result<void> Index::change_link(Table table, FileId id, std::string_view entry, bool there) {
  return there ? put(table, Key(id), entry) : remove(table, Key(id), &entry);
}

// ---- what the target holds ----

Result<std::optional<IndexedNode>> Index::node(FileId id) {
  EPOCHFS_TRY(auto bytes, get(kNodes, Key(id)));
  if (!bytes) return std::nullopt;
  EPOCHFS_TRY(auto node, decode_indexed(*bytes));
  return node;
}

Result<void> Index::put_node(FileId id, const IndexedNode& node) {
  return put(kNodes, Key(id), encode_indexed(node));
}

Result<void> Index::remove_node(FileId id) { return remove(kNodes, Key(id)); }

Result<FileId> Index::child(const EntryName& entry) {
  EPOCHFS_TRY(auto bytes, get(kNames, Key(entry)));
  return bytes ? file_at(*bytes) : FileId{};
}

Result<std::vector<EntryName>> Index::links(FileId id) { return all_links(kLinks, id); }

Result<bool> Index::has_links(FileId id) {
  EPOCHFS_TRY(auto bytes, get(kLinks, Key(id)));
  return bytes.has_value();
}

Result<void> Index::put_name(const EntryName& entry, FileId child_id) {
  EPOCHFS_TRY(FileId old, child(entry));
  if (old == child_id) return {};
  const Key key(entry);
  if (old) EPOCHFS_DO(change_link(kLinks, old, key, false));
  if (!child_id) return remove(kNames, key);
  EPOCHFS_DO(put(kNames, key, Key(child_id)));
  return change_link(kLinks, child_id, key, true);
}

Result<void> Index::clear_tree() {
  for (Table t : {kNodes, kNames, kLinks}) EPOCHFS_DO(empty(t));
  return {};
}

Result<size_t> Index::count_names() { return count(kNames); }

// ---- what is staged ----

Result<std::optional<StagedHead>> Index::staged_head(FileId id) {
  EPOCHFS_TRY(auto bytes, get(kStagedNodes, Key(id)));
  if (!bytes) return std::nullopt;
  EPOCHFS_TRY(auto head, decode_staged_head(*bytes));
  return head;
}

Result<std::optional<StagedNode>> Index::staged(FileId id) {
  EPOCHFS_TRY(auto bytes, get(kStagedNodes, Key(id)));
  if (!bytes) return std::nullopt;
  EPOCHFS_TRY(auto node, decode_staged(*bytes));
  return node;
}

Result<void> Index::put_staged(FileId id, const StagedNode& node) {
  return put(kStagedNodes, Key(id), encode_staged(node));
}

Result<void> Index::remove_staged(FileId id) { return remove(kStagedNodes, Key(id)); }

Result<size_t> Index::count_staged() { return count(kStagedNodes); }

Result<std::optional<FileId>> Index::staged_child(const EntryName& entry) {
  EPOCHFS_TRY(auto bytes, get(kStagedNames, Key(entry)));
  if (!bytes) return std::nullopt;
  return file_at(*bytes);
}

Result<std::vector<EntryName>> Index::staged_links(FileId id) {
  return all_links(kStagedLinks, id);
}

Result<void> Index::put_staged_name(const EntryName& entry, FileId child_id) {
  EPOCHFS_TRY(auto old, staged_child(entry));
  if (old == child_id) return {};
  const Key key(entry);
  if (old && *old) EPOCHFS_DO(change_link(kStagedLinks, *old, key, false));
  EPOCHFS_DO(put(kStagedNames, key, Key(child_id)));
  return child_id ? change_link(kStagedLinks, child_id, key, true) : Result<void>{};
}

Result<void> Index::remove_staged_name(const EntryName& entry) {
  EPOCHFS_DO(put_staged_name(entry, {}));
  return remove(kStagedNames, Key(entry));
}

Result<size_t> Index::count_staged_names() { return count(kStagedNames); }

Result<void> Index::put_range(FileId id, uint64_t offset, const StagedRange& range) {
  return put(kStagedRanges, Key(id, offset), encode_range(range));
}

Result<void> Index::remove_ranges(FileId id) {
  return scan(kStagedRanges, Key(id),
              [&](std::string_view key, std::string_view) { return remove(kStagedRanges, key); });
}

Result<void> Index::put_listed(FileId directory) { return put(kListed, Key(directory), {}); }

Result<bool> Index::listed(FileId directory) {
  EPOCHFS_TRY(auto bytes, get(kListed, Key(directory)));
  return bytes.has_value();
}

Result<void> Index::clear_staged_names() {
  for (Table t : {kStagedNames, kStagedLinks, kListed}) EPOCHFS_DO(empty(t));
  return {};
}

Result<void> Index::clear_stage() {
  for (Table t : {kStagedNodes, kStagedRanges}) EPOCHFS_DO(empty(t));
  return clear_staged_names();
}

// ---- scans ----

Result<void> Index::for_each_child(FileId parent, const Each<const EntryName&, FileId>& f) {
  return scan(kNames, Key(parent), [&](std::string_view key, std::string_view value) {
    return f(entry_at(key), file_at(value));
  });
}

Result<void> Index::for_each_node(const Each<FileId, const IndexedNode&>& f) {
  return scan(kNodes, {}, [&](std::string_view key, std::string_view value) -> Result<void> {
    EPOCHFS_TRY(auto node, decode_indexed(value));
    return f(file_at(key), node);
  });
}

Result<void> Index::for_each_staged(const Each<FileId, StagedNode&>& f) {
  return scan(kStagedNodes, {}, [&](std::string_view key, std::string_view value) -> Result<void> {
    EPOCHFS_TRY(auto node, decode_staged(value));
    return f(file_at(key), node);
  });
}

Result<void> Index::for_each_staged_name(const Each<const EntryName&, FileId>& f) {
  return scan(kStagedNames, {}, [&](std::string_view key, std::string_view value) {
    return f(entry_at(key), file_at(value));
  });
}

Result<void> Index::for_each_staged_child(FileId parent, const Each<const EntryName&, FileId>& f) {
  return scan(kStagedNames, Key(parent), [&](std::string_view key, std::string_view value) {
    return f(entry_at(key), file_at(value));
  });
}

Result<void> Index::for_each_range(FileId id, const Each<uint64_t, const StagedRange&>& f) {
  return scan(kStagedRanges, Key(id),
              [&](std::string_view key, std::string_view value) -> Result<void> {
                EPOCHFS_TRY(auto range, decode_range(value));
                return f(number_at(key, 16), range);
              });
}

Result<void> Index::for_each_listed(const Each<FileId>& f) {
  return scan(kListed, {}, [&](std::string_view key, std::string_view) { return f(file_at(key)); });
}

}  // namespace epochfs::replicator
