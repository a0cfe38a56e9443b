#include "replicator/target/index/tables.h"

#include <fmt/format.h>
#include <lmdb.h>

#include <utility>
#include <vector>

#include "journal/base/unix.h"

namespace epochfs::replicator {
namespace {

constexpr const char* kTableNames[] = {
    "meta",         "nodes",        "names",         "links",  "staged_nodes",
    "staged_names", "staged_links", "staged_ranges", "listed",
};

// A change copies one leaf page at worst, and sometimes splits one.
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

struct CursorCloser {
  void operator()(MDB_cursor* c) const { mdb_cursor_close(c); }
};
using Cursor = std::unique_ptr<MDB_cursor, CursorCloser>;

}  // namespace

Result<std::unique_ptr<Tables>> Tables::open(int dir, size_t map_bytes) {
  std::unique_ptr<Tables> tables(new Tables);
  if (int code = mdb_env_create(&tables->env_)) return index_error("open", code);
  mdb_env_set_maxdbs(tables->env_, kTables);
  // The stage folder's lock keeps other processes out; LMDB needs none of its own.
  if (int code = mdb_env_open(tables->env_, proc_path(dir).c_str(), MDB_NOLOCK, 0600)) {
    return index_error("open", code);
  }
  tables->map_bytes_ = map_bytes;
  if (int code = mdb_env_set_mapsize(tables->env_, map_bytes)) return index_error("map", code);
  MDB_stat stat;
  if (int code = mdb_env_stat(tables->env_, &stat)) return index_error("open", code);
  tables->page_bytes_ = stat.ms_psize;
  EPOCHFS_DO(tables->begin(0));
  for (int i = 0; i < kTables; ++i) {
    unsigned flags = MDB_CREATE | (i == kLinks || i == kStagedLinks ? MDB_DUPSORT : 0);
    if (int code = mdb_dbi_open(tables->txn_, kTableNames[i], flags, &tables->tables_[i])) {
      return index_error("open", code);
    }
  }
  // Handles that a transaction opened are closed if it does not commit.
  EPOCHFS_DO(tables->commit());
  return tables;
}

Tables::~Tables() {
  if (txn_) mdb_txn_abort(txn_);
  if (env_) mdb_env_close(env_);
}

Result<void> Tables::begin(size_t puts) {
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

bool Tables::crowded(size_t puts) const {
  return used_at_begin_ + estimate_ + puts * kPagesAPut * page_bytes_ > map_bytes_ / 4 * 3;
}

Result<void> Tables::make_room(size_t puts) {
  if (!crowded(puts)) return {};
  EPOCHFS_DO(commit());
  if (!crowded(puts)) return {};
  mdb_txn_abort(std::exchange(txn_, nullptr));
  return begin(puts);
}

Result<void> Tables::commit() {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  int code = mdb_txn_commit(std::exchange(txn_, nullptr));
  if (code == 0) return begin(0);
  failed_ = true;
  EPOCHFS_DO(begin(0));
  return index_error("write", code);
}

Result<void> Tables::roll_back() {
  if (txn_) mdb_txn_abort(std::exchange(txn_, nullptr));
  EPOCHFS_DO(begin(0));
  failed_ = false;
  return {};
}

// ---- reading and changing ----

Result<std::optional<std::string_view>> Tables::get(Table table, std::string_view key) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  MDB_val k = val(key), v;
  int code = mdb_get(txn_, tables_[table], &k, &v);
  if (code == MDB_NOTFOUND) return std::nullopt;
  if (code != 0) return index_error("read", code);
  return view(v);
}

Result<void> Tables::put(Table table, std::string_view key, std::string_view value) {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  MDB_val k = val(key), v = val(value);
  estimate_ += kPagesAPut * page_bytes_ + 2 * value.size();
  int code = mdb_put(txn_, tables_[table], &k, &v, 0);
  if (code == 0) return {};
  failed_ = true;
  return index_error("write", code);
}

Result<void> Tables::remove(Table table, std::string_view key, const std::string_view* value) {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  MDB_val k = val(key), v = val(value ? *value : std::string_view());
  estimate_ += kPagesAPut * page_bytes_;
  int code = mdb_del(txn_, tables_[table], &k, value ? &v : nullptr);
  if (code == 0 || code == MDB_NOTFOUND) return {};
  failed_ = true;
  return index_error("write", code);
}

Result<void> Tables::empty(Table table) {
  if (!txn_) return index_error("write", MDB_BAD_TXN);
  int code = mdb_drop(txn_, tables_[table], 0);
  if (code == 0) return {};
  failed_ = true;
  return index_error("write", code);
}

Result<size_t> Tables::count(Table table) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  MDB_stat stat;
  if (int code = mdb_stat(txn_, tables_[table], &stat)) return index_error("read", code);
  return stat.ms_entries;
}

// Copies batches of entries before it calls f, so that f may change the table.
Result<void> Tables::scan(Table table, std::string_view prefix, const OnEntry& f) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  struct Entry {
    size_t key, value, end;
  };
  std::string last(prefix), bytes;
  std::vector<Entry> batch;
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
        Entry entry{.key = bytes.size()};
        bytes.append(view(k));
        entry.value = bytes.size();
        bytes.append(view(v));
        entry.end = bytes.size();
        batch.push_back(entry);
      }
    }
    std::string_view all = bytes;
    for (const Entry& p : batch) {
      EPOCHFS_DO(f(all.substr(p.key, p.value - p.key), all.substr(p.value, p.end - p.value)));
    }
    if (more) last = all.substr(batch.back().key, batch.back().value - batch.back().key);
  }
  return {};
}

Result<void> Tables::for_each_value(Table table, std::string_view key, const OnValue& f) {
  if (!txn_) return index_error("read", MDB_BAD_TXN);
  MDB_cursor* raw;
  if (int code = mdb_cursor_open(txn_, tables_[table], &raw)) return index_error("read", code);
  Cursor cursor(raw);
  MDB_val k = val(key), v;
  for (auto op = MDB_SET;; op = MDB_NEXT_DUP) {
    int code = mdb_cursor_get(cursor.get(), &k, &v, op);
    if (code == MDB_NOTFOUND) return {};
    if (code != 0) return index_error("read", code);
    f(view(v));
  }
}

}  // namespace epochfs::replicator
