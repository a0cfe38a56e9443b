// NameHistory: which name did a file have at which moment, as far as the journal tells?
//
// A name holds from one record to a later one. Records also tell about the time before them: a file
// that is unlinked at a name, or renamed away from it, had that name before. Names that no record
// mentions are not known here (backing_names.h may find them).
//
// Costs 16 bytes for each record of a name, and one pass over the log. Up to four threads make that
// pass when the first name is asked for. The names themselves stay in the log. One thread may use
// it.
#pragma once

#include <array>
#include <unordered_map>
#include <vector>

#include "journal/log/log_view.h"

namespace epochfs::journal {

// Whether records of this type change what a name means.
bool is_of_names(RecordType type);

// The name of a file from one record on, until the next step of that file.
struct NameStep {
  enum class State {
    kUnknown,  // it had no name, or one that no record mentions
    kNamed,
    kGone,  // it lost its last known name, which parent and name hold
  };
  Lsn from{};
  State state = State::kUnknown;
  FileId parent;
  FileHandle parent_handle;
  std::string name;
};
// In the order of the log. The first begins at Lsn{0}; never empty.
using NameSteps = std::vector<NameStep>;

class NameHistory {
 public:
  // Borrows the view.
  explicit NameHistory(const LogView& view) : view_(view) {}

  // The reference is valid until the next call of any method.
  const NameSteps& steps(const FileId& file);
  // Takes in records that were appended since. Stops at a record that is still being copied, unless
  // it lies before `from`. True: there were new records of names. A caller that learned a name from
  // elsewhere calls this and then asks again, since a record may have made that name in between.
  bool catch_up(Lsn from = Lsn{0});
  // Whether all records of names before that position are known.
  bool covers(Lsn at) const { return !built_ || at < end_; }

 private:
  struct Mention {
    uint64_t key;  // hash of the file. Files with the same hash are told apart by their records
    uint64_t lsn;

    auto operator<=>(const Mention&) const = default;
  };
  // Sorted when it is first searched.
  struct Bucket {
    std::vector<Mention> mentions;
    bool sorted = true;
  };
  static constexpr size_t kBuckets = 256;
  using Buckets = std::array<std::vector<Mention>, kBuckets>;

  static uint64_t key_of(const FileId& file);
  static void collect(const RecordView& view, Buckets& into);
  void build();
  Lsn first_in_flight(const std::vector<Damage>& holes) const;
  void take(Buckets& from);
  std::vector<Record> mentions_of(const FileId& file);

  const LogView& view_;
  bool built_ = false;
  Lsn end_{};  // all records before it have been taken in
  std::array<Bucket, kBuckets> buckets_;
  std::unordered_map<FileId, NameSteps> known_;
};

}  // namespace epochfs::journal
