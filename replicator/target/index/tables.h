// Tables: how are the tables of the index kept on disk? In an LMDB environment, which only
// this file knows. It stores bytes under bytes; index.h says what they mean.
//
// Everything happens in one long transaction. commit() makes it durable and begins the next
// one. The destructor discards what was not committed. One thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "journal/base/result.h"

struct MDB_env;
struct MDB_txn;

namespace epochfs::replicator {

class Tables {
 public:
  enum Table {
    kMeta,
    kNodes,
    kNames,
    kLinks,  // several values for a key
    kStagedNodes,
    kStagedNames,
    kStagedLinks,  // several values for a key
    kStagedRanges,
    kListed,
    kTables
  };

  // Opens the environment in directory `dir`, or makes it. map_bytes: address space at first.
  // Errors: damage (kCorrupt).
  static Result<std::unique_ptr<Tables>> open(int dir, size_t map_bytes);
  ~Tables();
  Tables(const Tables&) = delete;

  // Returns when all changes are durable. On an error they are gone, and failed() is true.
  Result<void> commit();
  // A change or a commit failed: the transaction must be rolled back.
  bool failed() const { return failed_; }
  // Discards all changes since the last commit.
  Result<void> roll_back();

  // Whether the map has too little room for `puts` more changes in this transaction.
  bool crowded(size_t puts) const;
  // Makes room for `puts` more changes. Commits if the transaction is crowded.
  Result<void> make_room(size_t puts);

  // The value is valid until the next change.
  Result<std::optional<std::string_view>> get(Table table, std::string_view key);
  Result<void> put(Table table, std::string_view key, std::string_view value);
  // No such entry: no error. `value`: removes only this value of the key.
  Result<void> remove(Table table, std::string_view key, const std::string_view* value = nullptr);
  Result<void> empty(Table table);
  Result<size_t> count(Table table);

  // Calls f(key, value) for each entry whose key begins with prefix, in order of keys. f may
  // change any table; entries that it adds may be visited or not. An error of f ends the scan
  // and is returned.
  using OnEntry = std::function<Result<void>(std::string_view, std::string_view)>;
  Result<void> scan(Table table, std::string_view prefix, const OnEntry& f);
  // Calls f for each value of the key, in order. f must not change a table.
  using OnValue = std::function<void(std::string_view)>;
  Result<void> for_each_value(Table table, std::string_view key, const OnValue& f);

 private:
  Tables() = default;
  Result<void> begin(size_t puts);

  MDB_env* env_ = nullptr;
  MDB_txn* txn_ = nullptr;
  unsigned tables_[kTables] = {};
  bool failed_ = false;
  size_t map_bytes_ = 0;
  size_t page_bytes_ = 4096;
  size_t used_at_begin_ = 0;  // bytes
  size_t estimate_ = 0;       // the most that this transaction can have added, in bytes
};

}  // namespace epochfs::replicator
